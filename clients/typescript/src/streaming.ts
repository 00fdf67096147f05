/** Server-sent events, and the streamed answer of a chat. */

import type { Attempt } from "./attempt.js";
import { MetaAlignError, StreamBroken } from "./errors.js";
import type { Opened } from "./transport.js";
import type { ChatChunk, Receipt } from "./types.js";

/** The data of each event of a stream; comments, which keep the connection alive, are left out. */
export async function* eventData(
  body: ReadableStream<Uint8Array>,
  attempt: Pick<Attempt, "waiting" | "heard">,
): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let data: string[] = [];
  try {
    for (;;) {
      attempt.waiting();
      const { done, value } = await reader.read();
      attempt.heard();
      if (done) return; // an event without its empty line is not complete
      const came = decoder.decode(value, { stream: true });
      rest += came;
      if (!/[\r\n]/.test(came)) continue;
      // A carriage return at the end may be the first half of a line's end.
      const whole = rest.endsWith("\r") ? rest.slice(0, -1) : rest;
      const lines = whole.split(/\r\n|\n|\r/);
      rest = (lines.pop() ?? "") + rest.slice(whole.length);
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/**
 * A streamed answer: `for await (const chunk of stream) …`. It can be read once.
 *
 * Leaving the loop ends the request, and so does `abort()`.
 */
export class ChatStream implements AsyncIterable<ChatChunk> {
  /** The response's headers, which came before the first event. */
  readonly headers: Headers;
  readonly requestId: string;
  readonly #body: ReadableStream<Uint8Array>;
  readonly #attempt: Attempt;
  #receipt: Receipt | undefined;
  #text = "";
  #begun = false;
  #aborted = false;

  constructor({ response, attempt, requestId }: Opened) {
    this.headers = response.headers;
    this.requestId = requestId;
    if (response.body === null) throw new StreamBroken("the response has no body", { requestId, text: "" });
    this.#body = response.body;
    this.#attempt = attempt;
  }

  /** The newest receipt: there after the first event, and with `verify` complete after the last. */
  get receipt(): Receipt | undefined {
    return this.#receipt;
  }

  /** End the request; a loop over the stream ends without an error. */
  abort(): void {
    this.#aborted = true;
    this.#attempt.close(true);
  }

  /** Read the rest of the stream and return the text of the first choice. */
  async text(): Promise<string> {
    for await (const _ of this);
    return this.#text;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<ChatChunk, void, undefined> {
    const { requestId } = this;
    if (this.#begun) throw new MetaAlignError("a stream can be read once", { requestId });
    this.#begun = true;
    let complete = false;
    try {
      for await (const data of eventData(this.#body, this.#attempt)) {
        // Reading on to the end lets the connection be used again.
        if (complete) continue;
        if (data === "[DONE]") {
          complete = true;
          continue;
        }
        const chunk = this.#parse(data);
        this.#receipt = chunk.metaalign ?? this.#receipt;
        for (const choice of chunk.choices) if (choice.index === 0) this.#text += choice.delta.content ?? "";
        yield chunk;
      }
      if (!complete && !this.#aborted) {
        throw this.#broken("the connection ended before the answer did");
      }
    } catch (error) {
      if (complete || this.#aborted) return;
      const explained = this.#attempt.explain(error, requestId);
      if (explained instanceof MetaAlignError && !(explained instanceof StreamBroken)) {
        throw this.#broken(`the answer broke off: ${explained.message}`, explained);
      }
      throw explained;
    } finally {
      this.#attempt.close(!complete);
    }
  }

  #broken(message: string, cause?: unknown): StreamBroken {
    return new StreamBroken(message, { text: this.#text, requestId: this.requestId, cause });
  }

  #parse(data: string): ChatChunk {
    let event: unknown;
    try {
      event = JSON.parse(data);
    } catch (cause) {
      throw this.#broken("an event that is not JSON", cause);
    }
    const error = (event as { error?: { message?: unknown } } | null)?.error;
    if (error) throw this.#broken(typeof error.message === "string" ? error.message : "the answer broke off");
    return event as ChatChunk;
  }
}
