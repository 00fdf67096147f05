import assert from "node:assert/strict";
import { test } from "node:test";
import { inspect } from "node:util";
import {
  APIError,
  AuthenticationError,
  BadRequestError,
  BodyTooLarge,
  BudgetExhausted,
  ConnectionFailed,
  ERRORS,
  InvalidApiKey,
  InvalidPreferences,
  InvalidRequest,
  MetaAlign,
  MetaAlignError,
  MissingScope,
  ProfileNotFound,
  RateLimitExceeded,
  StoreUnavailable,
  StreamBroken,
  SystemTierForbidden,
  TimedOut,
  ServerError,
  UnexpectedAnswer,
} from "metaalign";
import { answers, baseURL, chat, client, hangsUp, OTTER, refuses, unique, withStub } from "./support.js";

/** What a promise is rejected with. */
async function failure<Kind extends Error>(
  promise: Promise<unknown>,
  kind: abstract new (...args: never[]) => Kind,
): Promise<Kind> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof kind, inspect(error));
    return error;
  }
  throw new assert.AssertionError({ message: "it was not rejected" });
}

const HELLO = { query: "hi", preferences: "Be brief." };
const ANSWER = { id: "align-1", model: "m", text: "hello", finish_reason: "stop", metaalign: null, usage: {} };

test("400 names the field and what to do", async () => {
  const wrong = { ...chat(), preferences: { user: { atributes: { tone: "formal" } } } as object };
  const error = await failure(client.chat.create(wrong), InvalidPreferences);
  assert.ok(error instanceof BadRequestError);
  assert.ok(error instanceof APIError);
  assert.ok(error instanceof MetaAlignError);
  assert.equal(error.name, "InvalidPreferences");
  assert.equal(error.status, 400);
  assert.equal(error.code, "invalid_preferences");
  assert.equal(error.param, "preferences.user.atributes");
  assert.equal(error.type, "invalid_request_error");
  assert.match(error.message, /^preferences\.user\.atributes: unknown key/);
  assert.equal(error.remedy, ERRORS.invalid_preferences.remedy);
  assert.match(error.requestId ?? "", /^[0-9a-f]{32}$/);
});

test("a refusal by the protocol has a class and a code like any other", async () => {
  const error = await failure(client.chat.create({ ...chat(), temperature: -1 }), InvalidRequest);
  assert.ok(error instanceof BadRequestError);
  assert.equal(error.status, 400);
  assert.equal(error.code, "invalid_request");
  assert.equal(error.param, "temperature");
  assert.equal(error.remedy, ERRORS.invalid_request.remedy);
});

test("a streamed request can be refused like any other", async () => {
  const wrong = { ...chat(), stream: true as const, preferences: { user: { attributes: { units: "ells" } } } };
  assert.equal((await failure(client.chat.create(wrong), InvalidPreferences)).status, 400);
});

test("401, 403, 404", async () => {
  const stranger = new MetaAlign({ baseURL, apiKey: "ma_live_wrong" });
  const unknown = await failure(stranger.models(), InvalidApiKey);
  assert.ok(unknown instanceof AuthenticationError);
  assert.ok(!inspect(unknown).includes("ma_live_wrong"));
  assert.ok(!inspect(stranger, { depth: 9, showHidden: true }).includes("ma_live_wrong"));
  const made = await client.admin.keys.create({ scopes: ["inference"] });
  const browser = client.withOptions({ apiKey: made.key });
  const forbidden = await failure(browser.align(HELLO), SystemTierForbidden);
  assert.equal(forbidden.param, "preferences.system");
  await failure(browser.profiles.list().first(), MissingScope);
  await client.admin.keys.revoke(made.id);
  const missing = await failure(client.profiles.get(unique("nobody")), ProfileNotFound);
  assert.equal(missing.status, 404);
});

test("429 of the real server says how long to wait", async () => {
  const made = await client.admin.keys.create({ scopes: ["inference"], limits: { requests_per_minute: 1 } });
  const limited = client.withOptions({ apiKey: made.key });
  await limited.align({ query: "hi", max_tokens: 1 });
  const error = await failure(limited.align({ query: "hi", max_tokens: 1 }), RateLimitExceeded);
  assert.equal(error.status, 429);
  assert.ok(error.retryAfter !== undefined && error.retryAfter >= 1 && error.retryAfter <= 120);
  assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
  await client.admin.keys.revoke(made.id);
});

test("413", async () => {
  const huge = client.align({ query: "x".repeat(20_000_000) });
  // The server may close the connection before it has taken all of it.
  const error = await failure(huge, MetaAlignError);
  assert.ok(error instanceof BodyTooLarge || error instanceof ConnectionFailed, inspect(error));
});

test("Retry-After is waited for, and every try has the same request id", async () => {
  const started = Date.now();
  const asked = await withStub([refuses(429, "rate_limit_exceeded", { "retry-after": "1" }), answers(200, ANSWER)], (url) =>
    new MetaAlign({ baseURL: url, apiKey: "key" }).align(HELLO).then((answer) => assert.equal(answer.text, "hello")),
  );
  assert.ok(Date.now() - started >= 1000);
  assert.equal(asked.length, 2);
  assert.equal(asked[0]?.headers["x-request-id"], asked[1]?.headers["x-request-id"]);
  assert.equal(asked[0]?.headers.authorization, "Bearer key");
  assert.deepEqual(JSON.parse(asked[1]?.body ?? ""), HELLO);
});

test("a wait of hours is the caller's to decide", async () => {
  for (const header of ["7200", new Date(Date.now() + 7_200_000).toUTCString()]) {
    const asked = await withStub([refuses(429, "rate_limit_exceeded", { "retry-after": header })], async (url) => {
      const error = await failure(new MetaAlign({ baseURL: url }).align(HELLO), APIError);
      assert.ok(error.retryAfter !== undefined && error.retryAfter > 7100 && error.retryAfter <= 7200);
    });
    assert.equal(asked.length, 1);
  }
});

test("a day's budget does not come back while a call waits", async () => {
  const asked = await withStub([refuses(429, "budget_exhausted", { "retry-after": "1" })], async (url) => {
    await failure(new MetaAlign({ baseURL: url }).align(HELLO), BudgetExhausted);
  });
  assert.equal(asked.length, 1);
});

test("without Retry-After the waits grow, up to maxRetries", async () => {
  const times: number[] = [];
  const busy = refuses(503, "overloaded");
  const note: typeof busy = (response) => {
    times.push(Date.now());
    busy(response);
  };
  await withStub([note], async (url) => {
    const error = await failure(new MetaAlign({ baseURL: url, maxRetries: 2 }).align(HELLO), ServerError);
    assert.equal(error.code, "overloaded");
    // For the compiler, what is not one kind of error may still be another.
    const other: APIError = error;
    assert.equal(other instanceof AuthenticationError ? 401 : other instanceof ServerError ? 503 : other.status, 503);
  });
  const [first = 0, second = 0, third = 0] = times;
  assert.equal(times.length, 3);
  assert.ok(second - first >= 240, String(second - first));
  assert.ok(third - second >= 490, String(third - second));
});

test("a refusal that another try would not change is not tried again", async () => {
  const asked = await withStub([refuses(400, "invalid_preferences")], async (url) => {
    await failure(new MetaAlign({ baseURL: url }).align(HELLO), InvalidPreferences);
  });
  assert.equal(asked.length, 1);
});

test("a connection that ends before an answer is tried again", async () => {
  const asked = await withStub([hangsUp, answers(200, ANSWER)], async (url) => {
    assert.equal((await new MetaAlign({ baseURL: url }).align(HELLO)).text, "hello");
  });
  assert.equal(asked.length, 2);
});

test("a proxy without an answer is a lost connection", async () => {
  const gateway = answers(502, "<html>Bad Gateway</html>");
  const asked = await withStub([gateway, answers(200, ANSWER)], async (url) => {
    assert.equal((await new MetaAlign({ baseURL: url }).align(HELLO)).text, "hello");
  });
  assert.equal(asked.length, 2);
  const unsure = await withStub([gateway], async (url) => {
    const error = await failure(new MetaAlign({ baseURL: url }).admin.tenants.create({ name: "zoo" }), ServerError);
    assert.equal(error.status, 502);
  });
  assert.equal(unsure.length, 1);
});

test("an answer of the model that has begun is not asked for again; a read is", async () => {
  const half = (response: Parameters<typeof hangsUp>[0]): void => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "1000" });
    response.write('{"id": "al');
    setTimeout(() => response.destroy(), 50);
  };
  const asked = await withStub([half, answers(200, ANSWER)], async (url) => {
    const error = await failure(new MetaAlign({ baseURL: url }).align(HELLO), ConnectionFailed);
    assert.ok(error.requestId);
  });
  assert.equal(asked.length, 1);
  const read = await withStub([half, answers(200, { data: [], has_more: false })], async (url) => {
    assert.deepEqual((await new MetaAlign({ baseURL: url }).profiles.list().first()).data, []);
  });
  assert.equal(read.length, 2);
});

test("a change of a profile is sent again with the same Idempotency-Key", async () => {
  const asked = await withStub([hangsUp, refuses(503, "store_unavailable"), answers(201, { name: "x" })], async (url) => {
    await new MetaAlign({ baseURL: url }).profiles.create({ name: "x", preferences: "Be brief." });
  });
  const keys = asked.map(({ headers }) => headers["idempotency-key"]);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.match(String(keys[0]), /^[0-9a-f]{32}$/);
});

test("a key is created again only if the first try cannot have made one", async () => {
  const create = (url: string) => new MetaAlign({ baseURL: url }).admin.keys.create({ scopes: ["inference"] });
  const lost = await withStub([hangsUp], async (url) => void (await failure(create(url), ConnectionFailed)));
  assert.equal(lost.length, 1);
  const unsure = await withStub(
    [refuses(503, "store_unavailable", { "retry-after": "1" })],
    async (url) => void (await failure(create(url), StoreUnavailable)),
  );
  assert.equal(unsure.length, 1);
  const refused = await withStub([refuses(503, "unavailable"), answers(201, { id: "k" })], async (url) => {
    await create(url);
  });
  assert.equal(refused.length, 2);
});

test("a server that is gone", async () => {
  let gone = "";
  await withStub([hangsUp], (url) => Promise.resolve(void (gone = url)));
  const error = await failure(new MetaAlign({ baseURL: gone, maxRetries: 1 }).models(), ConnectionFailed);
  assert.match(error.message, /ECONNREFUSED/);
  assert.match(error.requestId ?? "", /^[0-9a-f]{32}$/);
  assert.ok(error.cause instanceof TypeError);
  // Nothing was sent, so even a key may be asked for again.
  const started = Date.now();
  const twice = new MetaAlign({ baseURL: gone, maxRetries: 1 });
  await failure(twice.admin.keys.create({ scopes: ["inference"] }), ConnectionFailed);
  assert.ok(Date.now() - started >= 240);
});

test("a server that says nothing", async () => {
  const asked = await withStub([() => undefined], async (url) => {
    const patient = new MetaAlign({ baseURL: url, timeout: 200, maxRetries: 1 });
    const error = await failure(patient.models(), TimedOut);
    assert.equal(error.message, "nothing came for 200 ms: raise `timeout`, or ask for less");
    const again = new AbortController();
    setTimeout(() => again.abort(), 300);
    // A wait between two tries ends with the signal, too.
    const { name } = await failure(patient.models({ signal: again.signal, maxRetries: 9 }), DOMException);
    assert.equal(name, "AbortError");
    const late = await failure(patient.models({ signal: AbortSignal.timeout(50) }), DOMException);
    assert.equal(late.name, "TimeoutError");
  });
  assert.equal(asked.length, 4);
});

test("a server that says nothing for longer than fetch waits", async () => {
  let asked = 0;
  const impatient = new MetaAlign({
    baseURL,
    fetch: () => {
      asked += 1;
      return Promise.reject(new TypeError("fetch failed", { cause: { code: "UND_ERR_HEADERS_TIMEOUT" } }));
    },
  });
  const error = await failure(impatient.align(HELLO), TimedOut);
  assert.match(error.message, /as long as `fetch` waits \(in Node 300 s\): ask for less, or set `fetch`/);
  assert.equal(asked, 1); // the server may be at work on it still
});

const EVENT = 'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"word "}}]}\n\n';

function streams(...parts: string[]) {
  return (response: Parameters<typeof hangsUp>[0]): void => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    for (const part of parts) response.write(part);
  };
}

async function read(url: string, timeout = 5000): Promise<number> {
  let count = 0;
  const stream = await new MetaAlign({ baseURL: url, timeout }).chat.create({ ...chat(), stream: true });
  for await (const chunk of stream) count += chunk.id === "c" ? 1 : 0;
  return count;
}

test("a stream that breaks off is an error, and is not asked for again", async () => {
  const cut = (response: Parameters<typeof hangsUp>[0]): void => {
    streams(EVENT)(response);
    setTimeout(() => response.destroy(), 50);
  };
  const ends = (response: Parameters<typeof hangsUp>[0]): void => {
    streams(EVENT)(response);
    response.end();
  };
  const told = streams(EVENT, 'data: {"error": {"message": "the answer broke off", "code": 500}}\n\n');
  const nonsense = streams(EVENT, "data: {oh\n\n");
  for (const [answer, message] of [
    [cut, /broke off/],
    [ends, /ended before the answer did/],
    [told, /^the answer broke off$/],
    [nonsense, /not JSON/],
  ] as const) {
    const asked = await withStub([answer], async (url) => {
      const error = await failure(read(url), StreamBroken);
      assert.match(error.message, message);
      assert.equal(error.text, "word ");
      assert.ok(error instanceof ConnectionFailed);
      assert.match(error.requestId ?? "", /^[0-9a-f]{32}$/);
      assert.ok(error.remedy);
    });
    assert.equal(asked.length, 1);
  }
  await withStub([streams(EVENT)], async (url) => {
    const error = await failure(read(url, 200), StreamBroken);
    assert.ok(error.cause instanceof TimedOut);
    assert.match(error.message, /^the answer broke off: nothing came for 200 ms: raise `timeout`/);
  });
});

test("events are read however they are cut and ended", async () => {
  const crlf = EVENT.replaceAll("\n", "\r\n");
  const comment = ": keep-alive\n\n";
  const twoLines = EVENT.replace(',"object"', ',\ndata: "object"');
  const text = `${comment}${EVENT}event: x\nid: 1\n${EVENT}${crlf}${twoLines}data: [DONE]\n\n`;
  await withStub(
    [
      (response) => {
        response.writeHead(200, { "content-type": "text/event-stream" });
        const bytes = [...Buffer.from(text)];
        const next = (): void => {
          const byte = bytes.splice(0, 7);
          if (byte.length === 0) response.end();
          else response.write(Buffer.from(byte), () => setImmediate(next));
        };
        next();
      },
    ],
    async (url) => assert.equal(await read(url), 4),
  );
});

test("the caller's own pauses are not the server's silence", async () => {
  await withStub([streams(EVENT, EVENT, "data: [DONE]\n\n")], async (url) => {
    const stream = await new MetaAlign({ baseURL: url, timeout: 1000 }).chat.create({ ...chat(), stream: true });
    let count = 0;
    for await (const _ of stream) {
      count += 1;
      await new Promise((resolve) => setTimeout(resolve, 1500));
    }
    assert.equal(count, 2);
  });
});

test("something else that answers", async () => {
  await withStub([answers(200, "<html>hello</html>", { "content-type": "text/html" })], async (url) => {
    await failure(new MetaAlign({ baseURL: url }).models(), UnexpectedAnswer);
  });
  await withStub([answers(200, "")], async (url) => {
    await failure(new MetaAlign({ baseURL: url }).models(), UnexpectedAnswer);
  });
  await withStub([answers(404, "<html>nothing</html>")], async (url) => {
    const error = await failure(new MetaAlign({ baseURL: url }).models(), APIError);
    assert.equal(error.code, null);
    assert.match(error.message, /^404/);
  });
  // A code that a newer server has, and one that is known under another status.
  for (const [status, code] of [
    [418, "teapot"],
    [418, "invalid_preferences"],
  ] as const) {
    await withStub([refuses(status, code)], async (url) => {
      const error = await failure(new MetaAlign({ baseURL: url }).align({ query: OTTER }), APIError);
      assert.equal(error.constructor, APIError);
      assert.equal(error.code, code);
    });
  }
});
