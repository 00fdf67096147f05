/** One try of a call: when it ends, and what its failure means. */

import { ConnectionFailed, MetaAlignError, TimedOut } from "./errors.js";

// How Node says that its `fetch` has lost patience, which is its own beside `timeout`.
const SILENT = new Set<unknown>(["UND_ERR_HEADERS_TIMEOUT", "UND_ERR_BODY_TIMEOUT"]);

/** One try of a call: it ends with the caller's signal, or when nothing comes for too long. */
export class Attempt {
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal | undefined;
  readonly #milliseconds: number;
  readonly #end = (): void => this.#controller.abort(this.#outer?.reason);
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timedOut = false;

  constructor(outer: AbortSignal | undefined, milliseconds: number) {
    this.#outer = outer;
    this.#milliseconds = milliseconds;
    outer?.addEventListener("abort", this.#end, { once: true });
    if (outer?.aborted) this.#end();
    this.waiting();
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Something is to come from the server: from now on its silence counts. */
  waiting(): void {
    this.heard();
    if (!(this.#milliseconds > 0 && this.#milliseconds < Infinity)) return;
    this.#timer = setTimeout(() => {
      this.#timedOut = true;
      this.#controller.abort();
    }, this.#milliseconds);
  }

  /** It came. The time until the caller asks for more is the caller's. */
  heard(): void {
    clearTimeout(this.#timer);
  }

  /** It is over; `abort` also ends the connection. */
  close(abort = false): void {
    clearTimeout(this.#timer);
    this.#outer?.removeEventListener("abort", this.#end);
    if (abort) this.#controller.abort();
  }

  /** What an exception of `fetch`, or of reading its body, means. The caller's own abort is handed on as it is. */
  explain(error: unknown, requestId: string): unknown {
    if (this.#outer?.aborted) return this.#outer.reason;
    if (this.#timedOut) {
      const message = `nothing came for ${this.#milliseconds} ms: raise \`timeout\`, or ask for less`;
      return new TimedOut(message, { requestId, cause: error });
    }
    if (error instanceof MetaAlignError) return error;
    if (SILENT.has(causeOf(error))) {
      const silence = "nothing came for as long as `fetch` waits (in Node 300 s)";
      const message = `${silence}: ask for less, or set \`fetch\` to one that waits longer`;
      return new TimedOut(message, { requestId, cause: error });
    }
    const message = error instanceof Error ? error.message : String(error);
    return new ConnectionFailed(`no answer: ${causeOf(error) ?? message}`, { requestId, cause: error });
  }
}

/** The system's name for why there was no connection, if `fetch` tells. */
export function causeOf(error: unknown): string | undefined {
  const cause = error instanceof Error ? (error.cause as { code?: unknown; errors?: unknown } | undefined) : undefined;
  if (typeof cause?.code === "string") return cause.code;
  // Several addresses were tried.
  const first: unknown = Array.isArray(cause?.errors) ? cause.errors[0] : undefined;
  const code = (first as { code?: unknown } | undefined)?.code;
  return typeof code === "string" ? code : undefined;
}
