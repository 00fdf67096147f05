/**
 * What can go wrong, as one tree:
 *
 *     MetaAlignError
 *     ├── APIError              the server refused: status, code, param, remedy
 *     │   └── one class for each status, and below it one for each code (error_kinds.ts, generated)
 *     ├── ConnectionFailed      no answer came, or it ended early
 *     │   ├── TimedOut          nothing came for `timeout` milliseconds, or for as long as `fetch` waits
 *     │   └── StreamBroken      a streamed answer broke off
 *     └── UnexpectedAnswer      what came is not what the server sends: something else answered
 */

/** Base class of all errors of this package. */
export class MetaAlignError extends Error {
  /** The id of the request in the server's log. */
  readonly requestId: string | undefined;

  constructor(message: string, { requestId, cause }: { requestId?: string | undefined; cause?: unknown } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.requestId = requestId;
  }
}

/** No answer came, or it ended early. The server may have done the work all the same. */
export class ConnectionFailed extends MetaAlignError {}

/** Nothing came for `timeout` milliseconds, or for as long as `fetch` waits. */
export class TimedOut extends ConnectionFailed {}

/** A streamed answer broke off: what came before is not the whole answer. */
export class StreamBroken extends ConnectionFailed {
  readonly remedy = "Send the request again.";
  /** The text of the first choice as far as it had come. */
  readonly text: string;

  constructor(message: string, options: { text: string; requestId?: string | undefined; cause?: unknown }) {
    super(message, options);
    this.text = options.text;
  }
}

/** What came is not what the server sends: something else answered, such as a proxy. */
export class UnexpectedAnswer extends MetaAlignError {}

/** What an `APIError` is made of. */
export interface APIErrorFields {
  message: string;
  status: number;
  code: string | number | null;
  param: string | null;
  type: string | null;
  remedy: string | undefined;
  requestId: string | undefined;
  headers: Headers;
}

/** The server refused the request. */
export class APIError extends MetaAlignError {
  readonly status: number;
  /** The stable name of the error; null, or a number, if another server than MetaAlign's refused. */
  readonly code: string | number | null;
  /** The field that is wrong, such as `preferences.user.attributes`. */
  readonly param: string | null;
  /** The kind of error in the protocol's own words, such as `invalid_request_error`. */
  readonly type: string | null;
  /** What to do about it, if this version of the package knows the code. */
  readonly remedy: string | undefined;
  /** Seconds to wait before the next try, if the server named them. */
  readonly retryAfter: number | undefined;
  readonly headers: Headers;

  constructor(fields: APIErrorFields) {
    super(fields.message, { requestId: fields.requestId });
    this.status = fields.status;
    this.code = fields.code;
    this.param = fields.param;
    this.type = fields.type;
    this.remedy = fields.remedy;
    this.headers = fields.headers;
    this.retryAfter = retryAfter(fields.headers);
  }
}

/** Seconds from a `Retry-After` header, which holds either seconds or a date. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("retry-after")?.trim();
  if (!value) return undefined;
  const seconds = /^\d+(\.\d+)?$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.max(0, seconds);
}
