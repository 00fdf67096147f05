/** Requests: headers, timeouts, retries, and what of a response becomes an answer or an error. */

import { Attempt, causeOf } from "./attempt.js";
import { CLASS_OF_CODE, CLASS_OF_STATUS, ERRORS, type ErrorCode } from "./error_kinds.js";
import { APIError, ConnectionFailed, TimedOut, UnexpectedAnswer } from "./errors.js";

/** What `fetch` is, or stands in for it. */
export type Fetch = (input: string | URL | Request, init?: RequestInit) => Promise<Response>;

/** Options of a single call. */
export interface RequestOptions {
  /** Ends the call: it rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** Milliseconds without anything from the server after which a try is given up. */
  timeout?: number | undefined;
  /** How often a call is tried again. */
  maxRetries?: number | undefined;
  /** Further headers, such as `X-MetaAlign-Profile`. */
  headers?: Readonly<Record<string, string>> | undefined;
}

/** Options of a call that changes something under `/v1/profiles`. */
export interface WriteOptions extends RequestOptions {
  /** The change is made only if the profile still has this `etag`; otherwise `PreconditionFailed` is thrown. */
  etag?: string | undefined;
  /** Calls with the same key are one change, for a day. Each call gets one of its own unless you give it. */
  idempotencyKey?: string | undefined;
}

/**
 * When a call may be sent again.
 *
 * - `always`: sending it twice does what sending it once does.
 * - `before-answer`: the model is asked; also if the connection was lost before anything of an answer came, which ends
 *   the work on the server, but not after a silence, in which it may be at work still.
 * - `if-refused`: only if the server cannot have done it, since doing it twice would do it twice.
 */
export type Repeatable = "always" | "before-answer" | "if-refused";

/** One call, whatever the number of tries. */
export interface Call {
  method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  path: string;
  query?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** An object is sent as JSON. */
  body?: unknown;
  /** The media type of a body that is a text already. */
  contentType?: string;
  headers?: Readonly<Record<string, string | undefined>>;
  repeatable: Repeatable;
}

/** What every call of a client shares. */
export interface Settings {
  baseURL: string;
  apiKey: string | undefined;
  timeout: number;
  maxRetries: number;
  fetch: Fetch;
}

/** A response whose body has not been read, and the try that it belongs to. */
export interface Opened {
  response: Response;
  attempt: Attempt;
  requestId: string;
}

/** What is known of the response that an answer came in. */
export interface ResponseInfo {
  status: number;
  headers: Headers;
  requestId: string;
}

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8_000;
// A server that asks for more is not about to answer, and the caller should hear of it.
const LONGEST_RETRY_AFTER = 60_000;
// The codes of 503 with which the server refuses before it begins.
const REFUSED_BEFORE = new Set<unknown>(["unavailable", "overloaded"] satisfies ErrorCode[]);
// How Node says that there was no connection to send anything over. Browsers do not say.
const NEVER_CONNECTED = new Set<unknown>(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "UND_ERR_CONNECT_TIMEOUT"]);

// How a proxy says that it got no answer.
const NO_ANSWER = new Set([502, 504]);

const responses = new WeakMap<object, ResponseInfo>();

/** The response that an answer of this package came in: its status, headers and request id. */
export function responseOf(answer: object): ResponseInfo | undefined {
  return responses.get(answer);
}

/** Thirty-two hexadecimal digits. `crypto.randomUUID` is missing on pages without TLS. */
export function randomId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Sends calls. */
export class Transport {
  readonly #settings: Settings;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  /** The answer to a call: JSON, or undefined with the status 204. */
  async json<Answer>(call: Call, options: RequestOptions = {}): Promise<Answer> {
    const { text, info } = await this.#read(call, options);
    if (info.status === 204) return undefined as Answer;
    let answer: unknown;
    try {
      answer = JSON.parse(text);
    } catch (cause) {
      const what = `${call.method} ${call.path}: an answer that is not JSON; is this the address of a MetaAlign server?`;
      throw new UnexpectedAnswer(what, { requestId: info.requestId, cause });
    }
    if (typeof answer === "object" && answer !== null) responses.set(answer, info);
    return answer as Answer;
  }

  /** The answer to a call as a text. */
  async text(call: Call, options: RequestOptions = {}): Promise<string> {
    return (await this.#read(call, options)).text;
  }

  /** Send a call until there is a response that is no refusal; its body is the caller's to read. */
  async open(call: Call, options: RequestOptions = {}): Promise<Opened> {
    return this.#tries(call, options, (opened) => Promise.resolve(opened));
  }

  async #read(call: Call, options: RequestOptions): Promise<{ text: string; info: ResponseInfo }> {
    return this.#tries(call, options, async ({ response, attempt, requestId }) => {
      try {
        attempt.waiting();
        const text = await response.text();
        return { text, info: { status: response.status, headers: response.headers, requestId } };
      } catch (error) {
        throw attempt.explain(error, requestId);
      } finally {
        attempt.close();
      }
    });
  }

  async #tries<Result>(
    call: Call,
    options: RequestOptions,
    use: (opened: Opened) => Promise<Result>,
  ): Promise<Result> {
    const { signal, maxRetries = this.#settings.maxRetries } = options;
    const requestId = new Headers(options.headers).get("x-request-id") ?? randomId();
    for (let retry = 0; ; retry += 1) {
      const attempt = new Attempt(signal, options.timeout ?? this.#settings.timeout);
      let answered = false;
      try {
        const response = await this.#send(call, options, requestId, attempt);
        answered = response.ok;
        return await use({ response, attempt, requestId: response.headers.get("x-request-id") ?? requestId });
      } catch (error) {
        attempt.close();
        const wait = retry < maxRetries && mayRepeat(call, error, answered) ? waitBefore(retry, error) : undefined;
        if (wait === undefined) throw error;
        await sleep(wait, signal);
      }
    }
  }

  /** One try, up to a response that is no refusal. */
  async #send(call: Call, options: RequestOptions, requestId: string, attempt: Attempt): Promise<Response> {
    const headers = new Headers({ accept: "application/json", "x-request-id": requestId });
    if (this.#settings.apiKey !== undefined) headers.set("authorization", `Bearer ${this.#settings.apiKey}`);
    const init: RequestInit = { method: call.method, headers, signal: attempt.signal };
    if (call.body !== undefined) {
      headers.set("content-type", call.contentType ?? "application/json");
      init.body = call.contentType === undefined ? JSON.stringify(call.body) : String(call.body);
    }
    for (const [name, value] of Object.entries({ ...call.headers, ...options.headers })) {
      if (value !== undefined) headers.set(name, value);
    }
    let response: Response;
    try {
      if (attempt.signal.aborted) throw attempt.signal.reason;
      response = await this.#settings.fetch(urlOf(this.#settings.baseURL, call), init);
      attempt.heard();
      if (response.ok) return response;
      attempt.waiting();
      throw refusal(response, await response.text(), requestId);
    } catch (error) {
      throw attempt.explain(error, requestId);
    }
  }
}

function urlOf(baseURL: string, { path, query }: Call): string {
  const given = Object.entries(query ?? {}).filter((pair): pair is [string, string | number | boolean] => {
    return pair[1] !== undefined;
  });
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return baseURL + path + (search === "" ? "" : `?${search}`);
}

/** The error that a refusal stands for; what is no error document of the server still has its status. */
function refusal(response: Response, text: string, sentId: string): APIError {
  const { status, headers } = response;
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch {
    document = undefined;
  }
  const { message, code, param, type } = ((document as { error?: unknown } | undefined)?.error ?? {}) as Record<
    string,
    unknown
  >;
  const known = typeof code === "string" && Object.hasOwn(ERRORS, code) ? (code as ErrorCode) : undefined;
  const fields = {
    message: typeof message === "string" ? message : `${status} ${response.statusText}`.trim(),
    status,
    code: typeof code === "string" || typeof code === "number" ? code : null,
    param: typeof param === "string" ? param : null,
    type: typeof type === "string" ? type : null,
    remedy: known && ERRORS[known].remedy,
    requestId: headers.get("x-request-id") ?? sentId,
    headers,
  };
  // A code of another status would make the types lie.
  const Kind =
    known !== undefined && ERRORS[known].status === status
      ? CLASS_OF_CODE[known]
      : (CLASS_OF_STATUS[Math.min(status, 500)] ?? APIError);
  return new Kind(fields);
}

function mayRepeat({ repeatable }: Call, error: unknown, answered: boolean): boolean {
  if (error instanceof APIError) {
    if (error.status === 429) return error.code !== "budget_exhausted"; // of a whole day
    if (NO_ANSWER.has(error.status)) return repeatable !== "if-refused";
    return error.status === 503 && (repeatable !== "if-refused" || REFUSED_BEFORE.has(error.code));
  }
  if (!(error instanceof ConnectionFailed)) return false;
  // After a silence the server may be at work on it still.
  if (repeatable === "before-answer" && error instanceof TimedOut) return false;
  if (repeatable === "if-refused") return !answered && NEVER_CONNECTED.has(causeOf(error.cause));
  return repeatable === "always" || !answered;
}

/** Milliseconds to wait before the next try; undefined if it would be too long. */
function waitBefore(retry: number, error: unknown): number | undefined {
  const backoff = Math.min(FIRST_WAIT * 2 ** retry, LONGEST_WAIT);
  // Clients that failed together must not come back together.
  const spread = backoff / 2 + (Math.random() * backoff) / 2;
  const asked = error instanceof APIError ? error.retryAfter : undefined;
  if (asked === undefined) return spread;
  return asked * 1000 > LONGEST_RETRY_AFTER ? undefined : asked * 1000 + Math.random() * FIRST_WAIT;
}

function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const end = (): void => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, milliseconds);
    if (signal?.aborted) end();
    else signal?.addEventListener("abort", end, { once: true });
  });
}
