/** The package as npm makes it: what is in it, and that it works in a project that has nothing else. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { apiKey, baseURL, PIRATE } from "./support.js";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../", import.meta.url));
const tsc = join(root, "node_modules/typescript/bin/tsc");

const PROGRAM = `
import { type ChatStream, MetaAlign, type Receipt, receipt } from "metaalign";

const client = new MetaAlign();
const stream: ChatStream = await client.chat.create({
  messages: [{ role: "user", content: "Tell me three things about the otter." }],
  preferences: { system: { info: "Answer like a pirate.", attributes: {} } },
  temperature: 0,
  stream: true,
});
const text = await stream.text();
const found: Receipt | undefined = stream.receipt;
const names: string[] = [];
for await (const profile of client.profiles.list()) names.push(profile.name);
console.log(text, found?.applied, receipt(stream.headers)?.overridden);
`;

let project = "";
let listed: string[] = [];

before(async () => {
  project = await mkdtemp(join(tmpdir(), "metaalign-"));
  const { stdout } = await run("npm", ["pack", "--json", "--pack-destination", project], { cwd: root });
  // What the build prints comes before.
  const [packed] = JSON.parse(stdout.slice(stdout.lastIndexOf("\n[") + 1)) as [
    { filename: string; files: { path: string }[] },
  ];
  listed = packed.files.map(({ path }) => path);
  await writeFile(join(project, "package.json"), JSON.stringify({ name: "empty", private: true, type: "module" }));
  await run("npm", ["install", "--offline", `./${packed.filename}`], { cwd: project });
  await writeFile(join(project, "program.ts"), PROGRAM);
});

after(() => rm(project, { recursive: true, force: true }));

test("it holds what was built, the licence and the README, and nothing else", async () => {
  const others = listed.filter((path) => !/^dist\/\w+\.(js|d\.ts)$/.test(path));
  assert.deepEqual(others.sort(), ["LICENSE", "README.md", "package.json"]);
  const document = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as Record<string, unknown>;
  for (const kind of ["dependencies", "peerDependencies", "optionalDependencies"]) assert.ok(!(kind in document), kind);
});

/** The settings of three projects that have only the package: strictest, without the types of browsers, bundled. */
const STRICT = {
  target: "ES2022",
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noPropertyAccessFromIndexSignature: true,
  skipLibCheck: false,
  types: [] as string[],
};
const PROJECTS: Record<string, object> = {
  "Node's resolution, types of browsers": { ...STRICT, module: "NodeNext", lib: ["ES2022", "DOM", "DOM.Iterable"] },
  "Node's resolution, types of Node": {
    ...STRICT,
    module: "NodeNext",
    lib: ["ES2022"],
    types: ["node"],
    typeRoots: [join(root, "node_modules/@types")],
  },
  "a bundler's resolution": { ...STRICT, module: "ESNext", moduleResolution: "Bundler", lib: ["ES2022", "DOM"] },
};

for (const [name, compilerOptions] of Object.entries(PROJECTS)) {
  test(`it compiles and runs in an empty project: ${name}`, async () => {
    await writeFile(join(project, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["program.ts"] }));
    await run(process.execPath, [tsc, "-p", "."], { cwd: project }).catch((error: { stdout?: string }) => {
      throw new Error(error.stdout ?? "", { cause: error });
    });
    const env = { ...process.env, METAALIGN_BASE_URL: baseURL, METAALIGN_API_KEY: apiKey };
    const { stdout } = await run(process.execPath, ["program.js"], { cwd: project, env });
    assert.equal(stdout, `${PIRATE} true 0\n`);
  });
}
