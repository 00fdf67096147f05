/** The receipt, wherever an answer carries it. */

import type { Receipt } from "./types.js";

/** What the response's headers say of the receipt: enough to log, without the lists. */
export interface ReceiptSummary {
  applied: boolean;
  spec_hash: string;
  template: { name: string; version: string };
  profiles: string[];
  /** How many values lost. */
  overridden: number;
}

/** What `system_fingerprint` says of the receipt, where a client keeps nothing else: the beginning of its hash. */
export interface ReceiptTrace {
  /** The first twelve characters. */
  spec_hash: string;
  applied?: undefined;
  overridden?: undefined;
  profiles?: undefined;
  steering?: undefined;
}

/**
 * Headers, or something that has them: the summary. An answer of this client: the whole receipt. Anything else, which
 * another client may have cut down: the receipt, or what is left of it.
 */
export type ReceiptOf<Source> = Source extends Headers | Response | Readonly<Record<string, string>>
  ? ReceiptSummary
  : Source extends { object: "chat.completion.chunk" }
    ? Receipt | ReceiptTrace
    : "metaalign" extends keyof Source
      ? Receipt
      : Receipt | ReceiptTrace;

/**
 * Find the receipt of an answer; undefined if no preferences were applied.
 *
 * @param source A whole answer of any protocol, an event of its stream, or a result of the AI SDK: the receipt.
 *   Where a client has dropped it, and in later events of a stream: what `system_fingerprint` tells.
 *   A `Response`, its `Headers`, or headers as a plain object: a summary, since headers do not hold the lists.
 */
export function receipt<Source>(source: Source): ReceiptOf<Source> | undefined {
  return find(source) as ReceiptOf<Source> | undefined;
}

function find(source: unknown): Receipt | ReceiptSummary | ReceiptTrace | undefined {
  if (!isObject(source)) return undefined;
  if (source instanceof Headers) return summary((name) => source.get(name));
  if (source instanceof Response) return summary((name) => source.headers.get(name));
  const names = Object.keys(source);
  if (names.some((name) => name.toLowerCase() === "x-metaalign-spec-hash")) {
    const lowered = new Map(names.map((name) => [name.toLowerCase(), source[name]]));
    return summary((name) => {
      const value = lowered.get(name);
      return typeof value === "string" ? value : null;
    });
  }
  return wholeReceipt(source) ?? trace(source["system_fingerprint"]);
}

/** The receipt with all that belongs to it, if `source` has it. */
export function wholeReceipt(source: unknown): Receipt | undefined {
  if (!isObject(source)) return undefined;
  // `response` is where OpenAI's Responses protocol has it, `message` Anthropic's, and `providerMetadata` the AI SDK.
  const { response, message, providerMetadata } = source;
  for (const holder of [source, response, message]) {
    if (isObject(holder) && isReceipt(holder["metaalign"])) return holder["metaalign"];
  }
  if (isObject(providerMetadata)) {
    const own = providerMetadata["metaalign"];
    if (isObject(own) && isReceipt(own["receipt"])) return own["receipt"];
  }
  return undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

function isReceipt(value: unknown): value is Receipt {
  return isObject(value) && typeof value["spec_hash"] === "string";
}

function trace(fingerprint: unknown): ReceiptTrace | undefined {
  const found = typeof fingerprint === "string" ? /-ma([0-9a-f]{12})$/.exec(fingerprint) : null;
  return found?.[1] === undefined ? undefined : { spec_hash: found[1] };
}

function summary(header: (name: string) => string | null): ReceiptSummary | undefined {
  const specHash = header("x-metaalign-spec-hash");
  if (specHash === null) return undefined;
  const [name = "", version = ""] = (header("x-metaalign-template") ?? "").split("/");
  return {
    applied: header("x-metaalign-applied") === "true",
    spec_hash: specHash,
    template: { name, version },
    profiles: header("x-metaalign-profiles")?.split(",") ?? [],
    overridden: Number(header("x-metaalign-overridden") ?? 0),
  };
}
