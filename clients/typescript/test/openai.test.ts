import assert from "node:assert/strict";
import { test } from "node:test";
import { MetaAlign, preferencesFetch, receipt, type Receipt, withPreferences } from "metaalign";
import OpenAI, { BadRequestError } from "openai";
import { answers, apiKey, baseURL, chat, client, FACTS, MODEL, OTTER, PIRATE, withStub } from "./support.js";

const openai = new OpenAI({ baseURL: `${baseURL}/v1`, apiKey, maxRetries: 0 });
const BULLETS = FACTS.map((fact) => `- ${fact}`).join("\n");

test("openai-node with preferences in every chat", async () => {
  const pirate = withPreferences(openai, "Answer like a pirate.");
  assert.ok(pirate instanceof OpenAI);
  const answer = await pirate.chat.completions.create(chat());
  assert.equal(answer.choices[0]?.message.content, PIRATE);
  assert.equal(receipt(answer)?.applied, true);
  const { response } = await pirate.chat.completions.create(chat()).withResponse();
  assert.equal(receipt(response)?.spec_hash, receipt(answer)?.spec_hash);
  const plain = await openai.chat.completions.create(chat());
  assert.equal(receipt(plain), undefined, "the client that was copied is as it was");
});

test("openai-node, steered", async () => {
  const strong = withPreferences(openai, { user: { attributes: { format: "bullets" } }, strength: { user: 1.5 } });
  const answer = await strong.chat.completions.create(chat());
  assert.deepEqual(receipt(answer)?.steering, { strength: { system: 1, user: 1.5 }, branches: 2 });
});

test("a request's own preferences are kept", async () => {
  const pirate = withPreferences(openai, "Answer like a pirate.");
  const own = { ...chat(), preferences: { user: { attributes: { format: "bullets" } } } };
  const answer = await pirate.chat.completions.create(own);
  assert.equal(answer.choices[0]?.message.content, BULLETS);
});

test("openai-node, streamed", async () => {
  const pirate = withPreferences(openai, "Answer like a pirate.");
  const stream = await pirate.chat.completions.create({ ...chat(), stream: true });
  let text = "";
  const receipts: Receipt[] = [];
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta.content ?? "";
    const found = receipt(chunk);
    if (found && "tokens" in found) receipts.push(found);
    else if (found) assert.equal(found.spec_hash, receipts[0]?.spec_hash.slice(0, 12));
  }
  assert.equal(text, PIRATE);
  assert.equal(receipts.length, 1);
  assert.equal(receipts[0]?.applied, true);
});

test("openai-node, the Responses protocol, whole and streamed", async () => {
  const pirate = withPreferences(openai, "Answer like a pirate.");
  const body = { model: MODEL, input: OTTER, temperature: 0 };
  const answer = await pirate.responses.create(body);
  assert.equal(answer.output_text, PIRATE);
  assert.equal(receipt(answer)?.applied, true);
  const receipts = [];
  for await (const event of await pirate.responses.create({ ...body, stream: true })) {
    const found = receipt(event);
    if (found) receipts.push(found);
  }
  assert.ok(receipts.length >= 2);
});

test("openai-node, wrong preferences", async () => {
  const wrong = withPreferences(openai, { user: { attributes: { units: "ells" } } });
  await assert.rejects(wrong.chat.completions.create(chat()), (error) => {
    assert.ok(error instanceof BadRequestError);
    assert.equal(error.code, "invalid_preferences");
    assert.equal(error.param, "preferences.user.attributes");
    return true;
  });
});

test("two layers: the one that was added last is kept", async () => {
  const bullets = withPreferences(withPreferences(openai, "Answer like a pirate."), {
    user: { attributes: { format: "bullets" } },
  });
  assert.equal((await bullets.chat.completions.create(chat())).choices[0]?.message.content, BULLETS);
});

test("this package's own client", async () => {
  const pirate = withPreferences(client, "Answer like a pirate.");
  assert.ok(pirate instanceof MetaAlign);
  assert.equal((await pirate.align({ query: OTTER, temperature: 0 })).text, PIRATE);
  assert.equal((await pirate.models()).data[0]?.id, MODEL);
});

test("preferencesFetch: which requests get preferences, and in what form they may come", async () => {
  const asked = await withStub([answers(200, {})], async (url) => {
    const fetch = preferencesFetch("Be brief.");
    await fetch(`${url}/v1/models`);
    await fetch(`${url}/v1/profiles`, { method: "POST", body: "{}" });
    await fetch(new URL(`${url}/behind/a/proxy/v1/messages`), { method: "post", body: '{"a": 1}' });
    await fetch(new Request(`${url}/v1/align`, { method: "POST", body: '{"query": "hi"}', headers: { "x-a": "b" } }));
    await fetch(`${url}/v1/completions`, { method: "POST", body: '{"preferences": null}' });
    for (const body of [new Blob(["{}"]), "[]", "{", undefined]) {
      await assert.rejects(fetch(`${url}/v1/align`, { method: "POST", ...(body && { body }) }), TypeError);
    }
  });
  assert.deepEqual(
    asked.map(({ path, body }) => [path, body === "" ? undefined : (JSON.parse(body) as unknown)]),
    [
      ["/v1/models", undefined],
      ["/v1/profiles", {}],
      ["/behind/a/proxy/v1/messages", { preferences: "Be brief.", a: 1 }],
      ["/v1/align", { preferences: "Be brief.", query: "hi" }],
      ["/v1/completions", { preferences: null }],
    ],
  );
  assert.equal(asked[3]?.headers["x-a"], "b");
});
