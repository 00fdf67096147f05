/** The package in a browser, on a page of another origin than the server's. */

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { baseURL, client, OTTER, PIRATE } from "./support.js";

const root = new URL("../../", import.meta.url);

function findBrowser(): string | undefined {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("which", [name], { encoding: "utf8" }).trim();
    } catch {
      continue;
    }
  }
  return undefined;
}

const page = (key: string): string => `<!doctype html><script type="module">
import { MetaAlign, MissingScope, receipt } from "/dist/index.js";
const tell = (what) => fetch("/told", { method: "POST", body: JSON.stringify(what) });
try {
  const client = new MetaAlign({ baseURL: ${JSON.stringify(baseURL)}, apiKey: ${JSON.stringify(key)} });
  const ask = {
    messages: [{ role: "user", content: ${JSON.stringify(OTTER)} }],
    preferences: { profile: [], user: "Answer like a pirate." },
    temperature: 0,
    stream: true,
  };
  const stream = await client.chat.create(ask);
  const text = await stream.text();
  const left = await client.chat.create({ ...ask, max_tokens: 1500, ignore_eos: true });
  for await (const chunk of left) if (chunk.choices.length > 0) break;
  const refused = await client.profiles.list().first().catch((error) => error);
  await tell({
    text,
    applied: stream.receipt?.applied,
    inHeaders: receipt(stream.headers)?.template.name,
    refused: refused instanceof MissingScope && refused.requestId === refused.headers.get("x-request-id"),
  });
} catch (error) {
  await tell({ error: String(error), cause: String(error.cause) });
}
</script>`;

const browser = findBrowser();

test("a page can stream, leave, and read errors and headers", { skip: browser ? false : "needs Chromium", timeout: 120_000 }, async () => {
  const made = await client.admin.keys.create({ scopes: ["inference"] });
  let tell = (_: string): void => undefined;
  const told = new Promise<string>((resolve) => (tell = resolve));
  const site = createServer((request, response) => {
    const path = request.url ?? "";
    if (path === "/told") {
      let body = "";
      request.on("data", (part: Buffer) => (body += part.toString()));
      request.on("end", () => tell(body));
      response.end();
    } else if (/^\/dist\/\w+\.js$/.test(path)) {
      void readFile(new URL(`.${path}`, root)).then((code) => {
        response.writeHead(200, { "content-type": "text/javascript" }).end(code);
      });
    } else {
      response.writeHead(200, { "content-type": "text/html" }).end(page(made.key));
    }
  });
  await once(site.listen(0, "127.0.0.1"), "listening");
  const profile = await mkdtemp(join(tmpdir(), "metaalign-browser-"));
  // Without its sandbox, since it has to work for root in a container; it opens only this page.
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-breakpad", `--user-data-dir=${profile}`];
  const url = `http://127.0.0.1:${(site.address() as AddressInfo).port}/`;
  const running = spawn(browser ?? "", [...flags, url], { stdio: "ignore" });
  try {
    assert.deepEqual(JSON.parse(await told), {
      text: PIRATE,
      applied: true,
      inHeaders: "metaalign",
      refused: true,
    });
  } finally {
    const ended = once(running, "exit");
    running.kill();
    await ended;
    site.closeAllConnections();
    site.close();
    await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    await client.admin.keys.revoke(made.id);
  }
});
