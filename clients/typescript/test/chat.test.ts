import assert from "node:assert/strict";
import { test } from "node:test";
import {
  APIError,
  type BlendPart,
  type ChatChunk,
  type ChatStream,
  MetaAlign,
  receipt,
  responseOf,
  type SteeringApplied,
  type Strength,
} from "metaalign";
import { apiKey, baseURL, chat, client, FACTS, MODEL, OTTER, PIRATE } from "./support.js";

test("a chat follows its preferences and says so", async () => {
  const answer = await client.chat.create({ ...chat(), preferences: "Answer like a pirate." });
  assert.equal(answer.choices[0]?.message.content, PIRATE);
  assert.match(answer.id, /^chatcmpl-/);
  assert.equal(answer.object, "chat.completion");
  assert.equal(receipt(answer)?.applied, true);
  assert.deepEqual(receipt(answer)?.overridden, []);
  assert.deepEqual(receipt(answer)?.profiles, []);
  assert.ok(answer.usage.prompt_tokens > 0);
});

test("types say what answers hold", async () => {
  const answer = await client.chat.create({ ...chat(), preferences: { user: "Use bullets." } });
  const [choice] = answer.choices;
  assert.equal(choice?.index, 0);
  assert.equal(typeof answer.created, "number");
  assert.equal(choice?.message.role, "assistant");
  assert.equal(choice?.message.tool_calls?.length ?? 0, 0);
  for (const name of ["applied", "spec_hash", "template", "profiles", "learned_examples", "overridden", "tokens"]) {
    assert.ok(name in (receipt(answer) ?? {}), name);
  }
});

test("steering: how strongly preferences act, blends, and the best of several answers", async () => {
  const bullets = { attributes: { format: "bullets" } };
  const plain = await client.align({ query: OTTER, temperature: 0 });
  // 0 is as if the tier were not there.
  const strength: Strength = { user: 0 };
  const without = await client.align({ query: OTTER, preferences: { user: bullets, strength }, temperature: 0 });
  assert.equal(without.text, plain.text);
  assert.deepEqual(receipt(without)?.steering, { strength: { system: 1, user: 0 }, branches: 1 });
  const strong = await client.chat.create({ ...chat(), preferences: { user: bullets, strength: 1.5 } });
  assert.deepEqual(receipt(strong)?.steering, { strength: { system: 1.5, user: 1.5 }, branches: 2 });

  const blend: BlendPart[] = [{ user: bullets, weight: 1 }];
  const blended = await client.chat.create({ ...chat(), preferences: { blend } });
  assert.equal(blended.choices[0]?.message.content, FACTS.map((fact) => `- ${fact}`).join("\n"));
  assert.deepEqual(receipt(blended)?.steering?.blend, [1]);

  const preferences = { user: bullets, candidates: 3 };
  const stream = await client.chat.create({ ...chat(), temperature: 0.8, stream: true, preferences });
  await stream.text();
  const steering: SteeringApplied | null | undefined = stream.receipt?.steering;
  assert.equal(steering?.candidates, 3);
  assert.equal(typeof steering.score, "number");
});

test("without preferences there is no receipt", async () => {
  assert.equal(receipt(await client.chat.create(chat())), undefined);
});

test("align: the System tier wins, and the receipt says what lost", async () => {
  const answer = await client.align({
    query: "Tell me three things about the otter.",
    preferences: {
      system: { attributes: { tone: "pirate" } },
      user: { attributes: { tone: "formal", format: "bullets" } },
    },
    temperature: 0,
  });
  assert.equal(answer.text, ["Ahoy!", ...FACTS.map((fact) => `- ${fact}`), "Arr, matey!"].join("\n"));
  assert.deepEqual(receipt(answer)?.overridden, [
    { dimension: "tone", tier: "user", value: "formal", kept: "pirate", by: "system:request" },
  ]);
  const response = responseOf(answer);
  assert.equal(response?.status, 200);
  assert.match(response.requestId, /^[0-9a-f]{32}$/);
  assert.deepEqual(receipt(response.headers), {
    applied: true,
    spec_hash: receipt(answer)?.spec_hash,
    template: { name: "metaalign", version: "1" },
    profiles: [],
    overridden: 1,
  });
});

test("tokenize: the ids that a request would have", async () => {
  const body = { messages: chat().messages, preferences: { user: { attributes: { units: "imperial" } } } };
  const found = await client.tokenize(body);
  assert.deepEqual(found.tokens, (await client.render(body)).prompt_token_ids);
  assert.equal(found.count, found.tokens.length);
});

test("render: what the model would be told", async () => {
  const rendered = await client.render({ messages: chat().messages, preferences: { user: { attributes: { units: "imperial" } } } });
  assert.equal(rendered.user_info, "Use imperial units.");
  assert.equal(rendered.tokens, rendered.prompt_token_ids.length);
  assert.equal(receipt(rendered)?.applied, true);
});

test("the server and its models, with an address that ends in /v1/", async () => {
  assert.equal((await client.ready()).status, "ready");
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
  const models = await new MetaAlign({ baseURL: `${baseURL}/v1/`, apiKey }).models();
  assert.equal(models.data[0]?.id, MODEL);
});

test("a streamed answer comes in parts, its receipt with the first", async () => {
  const stream = await client.chat.create({ ...chat(), stream: true, preferences: "Answer like a pirate." });
  assert.ok(!stream.receipt?.applied);
  assert.equal(receipt(stream.headers)?.applied, true);
  const chunks: ChatChunk[] = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
    assert.equal(stream.receipt?.applied, true);
  }
  assert.ok(chunks.length > 5);
  assert.equal(chunks[0]?.object, "chat.completion.chunk");
  assert.equal(receipt(chunks[0])?.spec_hash, stream.receipt?.spec_hash);
  assert.equal(receipt(chunks[1]), undefined);
  const { metaalign, ...cut } = await client.chat.create({ ...chat(), preferences: "Answer like a pirate." });
  assert.deepEqual(receipt(cut), { spec_hash: metaalign?.spec_hash.slice(0, 12) });
  assert.equal(receipt({ system_fingerprint: "vllm-1" }), undefined);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.delta.content ?? "").join(""), PIRATE);
  assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, "stop");
  await assert.rejects(stream.text(), /can be read once/);
});

test("with verify, the receipt at the end of a stream is the complete one", async () => {
  const preferences = { system: { attributes: { format: "bullets" } }, verify: true as const };
  const stream = await client.chat.create({ ...chat(), stream: true, preferences });
  assert.match(await stream.text(), /^- /);
  assert.equal(stream.receipt?.verified?.[0]?.passed, true);
});

/** Seconds of text. */
const LONG = { ...chat(), temperature: 1, max_tokens: 1500, ignore_eos: true, stream: true as const };

async function countUntil(stream: ChatStream, stop: (stream: ChatStream, count: number) => boolean): Promise<number> {
  let count = 0;
  for await (const chunk of stream) {
    count += chunk.choices.length;
    if (stop(stream, count)) break;
  }
  return count;
}

/** How many tokens the engine has made so far. */
async function generated(): Promise<number> {
  const metrics = await fetch(`${baseURL}/metrics`, { headers: { authorization: `Bearer ${apiKey}` } });
  return Number(/^vllm:generation_tokens_total\{.*\} (\S+)$/m.exec(await metrics.text())?.[1]);
}

/** The same, once the engine has come to rest. */
async function generatedAtRest(): Promise<number> {
  for (let before = -1; ; ) {
    const now = await generated();
    if (now === before) return now;
    before = now;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
}

test("leaving the loop, and abort(), end the request", { timeout: 60_000 }, async () => {
  const before = await generatedAtRest();
  const left = await client.chat.create(LONG);
  assert.ok((await countUntil(left, (_, count) => count >= 3)) < 1400);
  const aborted = await client.chat.create(LONG);
  const count = await countUntil(aborted, (stream, seen) => {
    if (seen === 3) stream.abort();
    return false;
  });
  assert.ok(count < 1400, String(count));
  const never = await client.chat.create(LONG);
  never.abort();
  assert.equal(await never.text(), "");
  assert.ok((await generatedAtRest()) - before < 1500, "the engine went on for nobody");
});

test("a signal ends a call and a stream with its reason", { timeout: 30_000 }, async () => {
  const reason = new Error("enough");
  const controller = new AbortController();
  const stream = await client.chat.create(LONG, { signal: controller.signal });
  await assert.rejects(
    countUntil(stream, (_, count) => {
      if (count === 3) controller.abort(reason);
      return false;
    }),
    reason,
  );
  await assert.rejects(client.chat.create(chat(), { signal: controller.signal }), reason);
  const soon = new AbortController();
  setTimeout(() => soon.abort(reason), 100);
  await assert.rejects(client.chat.create({ ...LONG, stream: false }, { signal: soon.signal }), reason);
});

test("a flag that is known only at run time", async () => {
  const stream = Boolean(process.pid);
  const answer = await client.chat.create({ ...chat(), max_tokens: 1, stream });
  assert.ok("abort" in answer);
  answer.abort();
});

test("misspelt fields are errors of the compiler and of the server", async () => {
  await assert.rejects(
    // @ts-expect-error there is no such field
    client.align({ query: OTTER, preferences: { sytem: "Be brief." } }),
    (error) => error instanceof APIError && error.param === "preferences.sytem",
  );
  await assert.rejects(
    // @ts-expect-error there is no such tier
    client.align({ query: OTTER, preferences: { strength: { reader: 2 } } }),
    (error) => error instanceof APIError && error.param === "preferences.strength.reader",
  );
});
