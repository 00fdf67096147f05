// The server: calls, streams, and its errors as sentences that say what to do.

// The page's modules lie one folder below the server's root, wherever a proxy publishes it.
const root = new URL("../", import.meta.url);

// In this variable and nowhere else: not in the address, not in any storage.
let key = "";

export function setKey(value) {
  key = value.trim();
}

/** Something went wrong; the message is for the reader. */
export class Problem extends Error {
  constructor(message, { status = 0, code = null, param = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
  }
}

const GONE = "The server cannot be reached. Look whether it is running, then ask again.";
const BROKEN = "The answer broke off before its end, so what is shown is not all of it. Ask again.";

function wait(retryAfter) {
  const seconds = Number(retryAfter);
  if (!Number.isFinite(seconds) || seconds <= 0) return "Try again in a moment.";
  if (seconds < 120) return `Try again in ${seconds} ${seconds === 1 ? "second" : "seconds"}.`;
  if (seconds < 7200) return `Try again in ${Math.ceil(seconds / 60)} minutes.`;
  return `Try again in ${Math.ceil(seconds / 3600)} hours.`;
}

function ended(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

const withoutPath = (message) => message.replace(/^[\w.[\]]+: /, "");

const BY_CODE = {
  system_tier_forbidden: ({ param }) =>
    param === "preferences.strength.system"
      ? "This key may not weaken System Info. Set “System strength” to 1 or more, or use a key with the scope system."
      : "This key may not write System Info. Move it to User Info, or use a key with the scope system.",
  cross_site: () => "Without a key this server answers its own machine only. Open the page at 127.0.0.1, or create a key.",
  profile_not_found: (e) => `${ended(e.message)} Look under Profiles for the names that there are.`,
  feedback_disabled: () =>
    "This server keeps no answers, so a vote has nowhere to go. An operator can set METAALIGN_FEEDBACK=true.",
  exchange_not_found: () => "The server does not keep this answer, so it cannot be rated. Ask again, then vote.",
  label_protected: () => "This label is protected. Only an administrator’s key can move it.",
  precondition_failed: () => "Somebody changed the profile in the meantime. Open it again, then repeat the change.",
  budget_exhausted: (e) => `Today’s tokens of this key are used up. ${wait(e.retryAfter)}`,
  concurrency_limit_exceeded: () =>
    "This key may not have more answers running at once. Wait until one has ended, or use fewer columns.",
  body_too_large: () => "This is more text than the server takes. Send less.",
  invalid_preferences: (e) => `The server does not take these preferences. ${ended(e.message)} Change that part.`,
};

function explain(error) {
  const { status, code, message, param, retryAfter, requestId } = error;
  if (status === 401) {
    return key
      ? "The server does not know this key. It may be mistyped, revoked or expired: correct it at the top of the page."
      : "This server asks for a key. Type one into “Key” at the top of the page, then try again.";
  }
  if (code === "missing_scope" && param === "preferences.verify") {
    return "This key may not have answers checked against stored preferences. Switch “Check the answers” off.";
  }
  if (code === "missing_scope") return `${ended(message)} Use a key that has it.`;
  if (code === "refused_field" && (param === "preferences.strength" || param === "preferences.blend")) {
    const instead = param === "preferences.blend" ? "remove the blend" : "set both strengths to 1";
    return `The server cannot steer this answer: ${ended(withoutPath(message))} Or ${instead}.`;
  }
  if (code === "refused_field" && param === "preferences.candidates") {
    return `The server cannot choose among candidates: ${ended(withoutPath(message))} Or set “Candidates” to 1.`;
  }
  if (BY_CODE[code]) return BY_CODE[code](error);
  if (status === 429) return `Too many requests for now. ${wait(retryAfter)}`;
  if (status === 502 || status === 503 || status === 504) return `The server takes no work just now. ${wait(retryAfter)}`;
  if (status === 500) return `The server has failed. Report it with the request id ${requestId ?? "in its log"}.`;
  return `The server refuses this. ${ended(message || `It says only “${status}”`)} Change that part and try again.`;
}

async function problemOf(response) {
  const text = await response.text();
  let told = {};
  try {
    told = JSON.parse(text).error ?? {};
  } catch {
    // Not ours: a proxy's page. Its status says enough.
  }
  const error = {
    status: response.status,
    code: told.code ?? null,
    message: typeof told.message === "string" ? told.message.slice(0, 400) : "",
    param: told.param ?? null,
    retryAfter: response.headers.get("retry-after"),
    requestId: response.headers.get("x-request-id"),
  };
  return new Problem(explain(error), error);
}

async function send(method, path, body, signal) {
  const headers = {};
  if (body !== undefined) headers["content-type"] = "application/json";
  if (key) headers.authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(new URL(path, root), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal,
      credentials: "omit",
      cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    // A key that no header can hold fails here too, and then the server was not even asked.
    if (/[^\x21-\x7e]/.test(key)) throw new Problem("A key has no spaces or special letters. Correct it at the top.");
    throw new Problem(GONE);
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

/** Call a route, and return its JSON (null for an empty answer). */
export async function call(method, path, body, signal) {
  const response = await send(method, path, body, signal);
  try {
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(GONE);
  }
}

/** What the page knows of the contract: dimensions, limits, the version. */
export async function readKnown() {
  const response = await fetch(new URL("known.json", import.meta.url), { credentials: "omit" });
  return response.json();
}

/** Ask for a chat answer, and yield the chunks of its stream. A stream that ends without its end is a Problem. */
export async function* streamChat(body, signal) {
  const response = await send("POST", "v1/chat/completions", { ...body, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Problem(BROKEN);
      waiting += value;
      const events = waiting.split("\n\n");
      waiting = events.pop();
      for (const event of events) {
        const data = event.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)).join("\n");
        if (data === "[DONE]") return;
        if (!data) continue; // a comment that keeps the connection alive
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Problem(BROKEN);
        yield chunk;
      }
    }
  } catch (error) {
    if (error instanceof Problem || error.name === "AbortError") throw error;
    throw new Problem(BROKEN);
  } finally {
    reader.cancel().catch(() => {});
  }
}
