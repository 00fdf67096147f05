/** The real server that the tests ask, and a small one that misbehaves in ways that the real one does not. */

import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { MetaAlign } from "metaalign";

/** The address of the real server and an operator's key; `tests/e2e/test_typescript.py` names them. */
export const { METAALIGN_BASE_URL: baseURL = "", METAALIGN_API_KEY: apiKey = "" } = process.env;
assert.ok(baseURL !== "" && apiKey !== "", "set METAALIGN_BASE_URL and METAALIGN_API_KEY to a server that keeps feedback");

export const client = new MetaAlign({ baseURL, apiKey, maxRetries: 0 });
export const MODEL = "metaalign-demo";
export const OTTER = "Tell me three things about the otter.";
export const FACTS = ["The otter lives in rivers.", "The otter eats fish.", "The otter uses stones as tools."];
export const PIRATE = `Ahoy! ${FACTS.join(" ")} Arr, matey!`;

/** A chat request for a greedy answer. */
export function chat(content = OTTER) {
  return { model: MODEL, messages: [{ role: "user" as const, content }], temperature: 0 };
}

/** A name that no other run has used. */
export function unique(prefix: string): string {
  return `${prefix}-${Math.random().toString(36).slice(2, 10)}`;
}

/** What a stub was asked. */
export interface Asked {
  method: string;
  path: string;
  headers: IncomingMessage["headers"];
  body: string;
}

/**
 * Run `use` with the address of a server whose answers are `answers`, one for each request, the last one repeated.
 * Returns what it was asked.
 */
export async function withStub(
  answers: readonly ((response: ServerResponse) => void)[],
  use: (baseURL: string, asked: readonly Asked[]) => Promise<void>,
): Promise<Asked[]> {
  const asked: Asked[] = [];
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (part: Buffer) => (body += part.toString()));
    request.on("end", () => {
      const answer = answers[Math.min(asked.length, answers.length - 1)];
      asked.push({ method: request.method ?? "", path: request.url ?? "", headers: request.headers, body });
      answer?.(response);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
  return asked;
}

/** An answer of a stub. */
export function answers(status: number, body: unknown, headers: Record<string, string> = {}) {
  return (response: ServerResponse): void => {
    response.writeHead(status, { "content-type": "application/json", ...headers });
    response.end(typeof body === "string" ? body : JSON.stringify(body));
  };
}

/** A refusal of a stub, in the server's form. */
export function refuses(status: number, code: string, headers: Record<string, string> = {}) {
  return answers(status, { error: { message: `${code}!`, type: "x", param: null, code } }, headers);
}

/** A connection that ends without an answer. */
export function hangsUp(response: ServerResponse): void {
  response.destroy();
}
