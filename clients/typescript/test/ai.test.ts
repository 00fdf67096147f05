import assert from "node:assert/strict";
import { test } from "node:test";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, streamText } from "ai";
import { aiSdkSettings, preferencesFetch, receipt } from "metaalign";
import { apiKey, baseURL, FACTS, MODEL, OTTER, PIRATE } from "./support.js";

const server = { name: "metaalign", baseURL: `${baseURL}/v1`, apiKey };
const pirate = createOpenAICompatible({ ...server, ...aiSdkSettings("Answer like a pirate.") });
const question = { prompt: OTTER, temperature: 0, maxRetries: 0 };

test("the AI SDK with preferences in every request", async () => {
  const result = await generateText({ model: pirate(MODEL), ...question });
  assert.equal(result.text, PIRATE);
  assert.equal(receipt(result)?.applied, true);
  assert.equal(receipt(result.response.headers ?? {})?.spec_hash, receipt(result)?.spec_hash);
});

test("the AI SDK, streamed", async () => {
  const result = streamText({ model: pirate(MODEL), ...question });
  const parts: string[] = [];
  for await (const part of result.textStream) parts.push(part);
  assert.equal(parts.join(""), PIRATE);
  assert.ok(parts.length > 3);
  assert.equal(receipt({ providerMetadata: await result.providerMetadata })?.applied, true);
});

test("the AI SDK, steered", async () => {
  const strong = { user: { attributes: { format: "bullets" } }, strength: { user: 1.5 } };
  const provider = createOpenAICompatible({ ...server, ...aiSdkSettings(strong) });
  const result = await generateText({ model: provider(MODEL), ...question });
  assert.deepEqual(receipt(result)?.steering, { strength: { system: 1, user: 1.5 }, branches: 2 });
});

test("preferences of one request, by the AI SDK's own option", async () => {
  const preferences = { user: { attributes: { format: "bullets" } } };
  const result = await generateText({
    model: pirate(MODEL),
    ...question,
    providerOptions: { metaalign: { preferences } },
  });
  assert.equal(result.text, FACTS.map((fact) => `- ${fact}`).join("\n"));
});

test("the fetch alone is enough", async () => {
  const provider = createOpenAICompatible({ ...server, fetch: preferencesFetch("Answer like a pirate.") });
  assert.equal((await generateText({ model: provider(MODEL), ...question })).text, PIRATE);
});
