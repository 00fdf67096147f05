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

/** Headers, or something that has them: the summary. Anything else: the whole receipt. */
export type ReceiptOf<Source> = Source extends Headers | Response | Readonly<Record<string, string>>
  ? ReceiptSummary
  : Receipt;

/**
 * Find the receipt of an answer; undefined if no preferences were applied.
 *
 * @param source A whole answer of any protocol, an event of its stream, or a result of the AI SDK: the receipt.
 *   A `Response`, its `Headers`, or headers as a plain object: a summary, since headers do not hold the lists.
 */
export function receipt<Source>(source: Source): ReceiptOf<Source> | undefined {
  return find(source) as ReceiptOf<Source> | undefined;
}

function find(source: unknown): Receipt | ReceiptSummary | undefined {
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
