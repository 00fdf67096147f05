/** The programs of the README and of the quickstart compile strictly, and print what is shown. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { apiKey, baseURL, unique } from "./support.js";

const run = promisify(execFile);
const root = new URL("../../", import.meta.url);
const folder = new URL("build/readme/", root);
// A name of its own, since a deleted profile's version numbers are not given again.
const files = ["README.md", "../../docs/quickstart.md"].map((page) => readFile(new URL(page, root), "utf8"));
const readme = (await Promise.all(files)).join("\n").replaceAll("readme-guide", unique("readme"));
const programs = [...readme.matchAll(/^```ts\n(.*?)^```\n\n```\n(.*?)^```/gms)];

before(async () => {
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  for (const [index, [, program = ""]] of programs.entries()) {
    const real = program.replaceAll("http://127.0.0.1:8000", baseURL).replaceAll('"unused"', JSON.stringify(apiKey));
    await writeFile(new URL(`${index}.ts`, folder), real);
  }
  const settings = {
    extends: "../../tsconfig.json",
    compilerOptions: { types: ["node"], skipLibCheck: true, declaration: false, rootDir: ".", outDir: "out" },
    include: ["*.ts"],
  };
  await writeFile(new URL("tsconfig.json", folder), JSON.stringify(settings));
  await run(process.execPath, ["node_modules/typescript/bin/tsc", "-p", "build/readme"], { cwd: root });
});

after(() => rm(folder, { recursive: true, force: true }));

test("every program is shown with what it prints", () => {
  assert.equal(programs.length, readme.match(/^```ts$/gm)?.length);
  assert.equal(programs.length, 8);
});

for (const [index, [, program = "", shown]] of programs.entries()) {
  test(`program ${index + 1}: ${/new (\w+)|(createOpenAICompatible)/.exec(program)?.[0] ?? ""}`, async () => {
    const { stdout, stderr } = await run(process.execPath, [`build/readme/out/${index}.js`], { cwd: root });
    assert.equal(stderr, "");
    assert.equal(stdout, shown);
  });
}
