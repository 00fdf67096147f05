// Writes src/openapi.ts from ../openapi.json (`npm run types`); with `--check` it compares instead (`npm run check`).
import { readFile, writeFile } from "node:fs/promises";
import openapiTS, { astToString } from "openapi-typescript";

const here = (path) => new URL(path, import.meta.url);
const source = here("../../openapi.json");
const target = here("../src/openapi.ts");
const HEADER = "// Written by `npm run types` from ../openapi.json, the OpenAPI document of the server.\n\n";

// The protocols that other clients speak (OpenAI's older routes, Anthropic's) make up most of the document, and this
// package has no method for them. Nor does it need the documents of errors: they have types of their own in errors.ts.
const OTHER_PROTOCOLS = /^\/v1\/(completions|responses|messages)\b/;
const OPERATIONS = /^\/(health|livez|metrics)$/;

// vLLM leaves these out where it has nothing to say.
const LEFT_OUT = new Set(["tool_calls"]);

const REFERENCE = /"#\/components\/schemas\/([^"]+)"/g;

/** The names of all schemas that `value` leads to. */
function reachable(document, value, found = new Set()) {
  for (const [, name] of JSON.stringify(value).matchAll(REFERENCE)) {
    if (found.has(name)) continue;
    found.add(name);
    reachable(document, document.components.schemas[name], found);
  }
  return found;
}

const nullable = (schema) => schema.anyOf?.some((choice) => choice.type === "null") ?? schema.type === undefined;

/** A schema as a reader of answers, or a writer of requests, wants it. */
function tidied(schema, onlyAnswers) {
  const kept = structuredClone(schema);
  // Other fields may be there, but a type that says so cannot find a misspelt one.
  if (kept.properties !== undefined && kept.additionalProperties === true) delete kept.additionalProperties;
  if (onlyAnswers && kept.properties !== undefined) {
    // In an answer, what is neither required nor may be null has a default, and the server writes it.
    const written = Object.entries(kept.properties)
      .filter(([name, property]) => !nullable(property) && !property.$ref && !LEFT_OUT.has(name))
      .map(([name]) => name);
    kept.required = [...new Set([...(kept.required ?? []), ...written])];
  }
  return kept;
}

/** The part of the document that the package uses. */
function used(document) {
  const paths = {};
  for (const [path, methods] of Object.entries(document.paths)) {
    if (OTHER_PROTOCOLS.test(path) || OPERATIONS.test(path)) continue;
    paths[path] = {};
    for (const [method, operation] of Object.entries(methods)) {
      const responses = {};
      for (const [status, { description, content }] of Object.entries(operation.responses)) {
        if (status.startsWith("2")) responses[status] = { description, ...(content && { content }) };
      }
      paths[path][method] = { ...operation, responses };
    }
  }
  const asked = reachable(
    document,
    Object.values(paths).flatMap((methods) => Object.values(methods).map(({ requestBody }) => requestBody ?? null)),
  );
  const schemas = {};
  for (const name of [...reachable(document, paths)].sort()) {
    schemas[name] = tidied(document.components.schemas[name], !asked.has(name));
  }
  return { openapi: document.openapi, info: document.info, paths, components: { schemas } };
}

// A field with a default may be left out of a request.
const types = await openapiTS(used(JSON.parse(await readFile(source, "utf8"))), { defaultNonNullable: false });
const text = HEADER + astToString(types);
if (!process.argv.includes("--check")) {
  await writeFile(target, text);
} else if ((await readFile(target, "utf8").catch(() => "")) !== text) {
  console.error("src/openapi.ts is not what ../openapi.json says: run `npm run types`");
  process.exitCode = 1;
}
