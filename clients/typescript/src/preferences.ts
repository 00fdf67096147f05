/** Preferences for clients that do not know them: openai-node, the AI SDK, and any other that takes a `fetch`. */

import { wholeReceipt } from "./receipt.js";
import type { Fetch } from "./transport.js";
import type { Preferences, Receipt } from "./types.js";

// The last part of a path is enough: a proxy may publish the server under another one.
const TAKES_PREFERENCES =
  /\/(chat\/completions|completions|responses|messages|messages\/count_tokens|align|preferences\/render)\/?$/;

/**
 * A `fetch` that adds `preferences` to every request to the model. A request's own `preferences` are kept instead.
 *
 * @param preferences What is added.
 * @param inner Sends the request; the platform's own if left out.
 */
export function preferencesFetch(preferences: Preferences, inner?: Fetch): Fetch {
  const send: Fetch = inner ?? ((input, init) => globalThis.fetch(input, init));
  return async (input, init) => {
    const request = input instanceof Request ? input : undefined;
    const method = (init?.method ?? request?.method ?? "GET").toUpperCase();
    const url = request?.url ?? String(input);
    // Against a base that only serves to read paths: in a browser, a URL may be relative.
    if (method !== "POST" || !TAKES_PREFERENCES.test(new URL(url, "http://relative").pathname)) {
      return send(input, init);
    }
    const body: unknown = init?.body ?? (request === undefined ? undefined : await request.clone().text());
    const headers = new Headers(init?.headers ?? request?.headers);
    headers.delete("content-length"); // of the body as it was
    const changed: RequestInit = { ...init, headers, body: withField(body, preferences) };
    return request === undefined ? send(input, changed) : send(new Request(request, changed));
  };
}

function withField(body: unknown, preferences: Preferences): string {
  let fields: unknown;
  if (typeof body === "string") {
    try {
      fields = JSON.parse(body);
    } catch {
      fields = undefined;
    }
  }
  if (typeof fields !== "object" || fields === null || Array.isArray(fields)) {
    // Sent as it is, the request would lose its preferences without a word.
    throw new TypeError("preferences can be added only to a body that is the text of a JSON object");
  }
  return JSON.stringify({ preferences, ...fields });
}

/** A client that can be copied with another `fetch`, such as openai-node's or this package's. */
export interface Copyable<Client> {
  withOptions(options: { fetch: Fetch }): Client;
}

/**
 * A copy of a client that adds `preferences` to every request to the model. A request's own `preferences` are kept.
 *
 *     const pirate = withPreferences(new OpenAI({ … }), "Answer like a pirate.");
 */
export function withPreferences<Client extends Copyable<Client>>(client: Client, preferences: Preferences): Client {
  const inner: unknown = Reflect.get(client, "fetch"); // private in openai-node's types
  const send = typeof inner === "function" ? (inner as Fetch) : undefined;
  const bound: Fetch | undefined = send && ((input, init) => send.call(undefined, input, init));
  return client.withOptions({ fetch: preferencesFetch(preferences, bound) });
}

// Not an interface: those are no JSON objects to the compiler, since they could be extended.
type ReceiptMetadata = { metaalign: { receipt: Receipt } };

/**
 * Settings for `createOpenAICompatible` of `@ai-sdk/openai-compatible`: `preferences` with every request, and the
 * receipt of every answer in its `providerMetadata`, where `receipt()` finds it.
 *
 *     createOpenAICompatible({ name: "metaalign", baseURL, apiKey, ...aiSdkSettings("Answer like a pirate.") })
 */
export function aiSdkSettings(preferences: Preferences, inner?: Fetch) {
  return {
    fetch: preferencesFetch(preferences, inner),
    metadataExtractor: {
      extractMetadata: ({ parsedBody }: { parsedBody: unknown }) => Promise.resolve(metadataOf(wholeReceipt(parsedBody))),
      createStreamExtractor: () => {
        let newest: Receipt | undefined;
        return {
          processChunk: (chunk: unknown): void => {
            newest = wholeReceipt(chunk) ?? newest;
          },
          buildMetadata: () => metadataOf(newest),
        };
      },
    },
  };
}

function metadataOf(found: Receipt | undefined): ReceiptMetadata | undefined {
  return found && { metaalign: { receipt: found } };
}
