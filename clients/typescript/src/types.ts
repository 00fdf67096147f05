/** Short names for what `openapi.ts` holds, and the types of streamed events, which the document does not describe. */

import type { components } from "./openapi.js";

type Schemas = components["schemas"];

/** `preferences` of a request; a bare string stands for `{"system": "…"}`. */
export type Preferences = NonNullable<Schemas["AlignRequest"]["preferences"]>;

/** How strongly each tier acts: 1 as trained, 0 as if it were not there. `strength: 1.5` is for both. */
export type Strength = Schemas["Strength"];

/** One of the User tiers that `preferences.blend` mixes. */
export type BlendPart = Schemas["BlendPart"];

/** What was applied to an answer. */
export type Receipt = Schemas["Receipt"];

/** How an answer was steered: `receipt.steering`. */
export type SteeringApplied = Schemas["SteeringApplied"];

export type ChatRequest = Schemas["ChatRequest"];
export type ChatAnswer = Schemas["ChatAnswer"];
export type ChatMessage = ChatRequest["messages"][number];
export type Usage = Schemas["UsageInfo"];
export type AlignRequest = Schemas["AlignRequest"];
export type AlignAnswer = Schemas["AlignAnswer"];
export type RenderRequest = Schemas["RenderRequest"];
export type RenderAnswer = Schemas["RenderAnswer"];
export type TokenizeRequest = Schemas["TokenizeRequest"];
export type TokenizeAnswer = Schemas["TokenizeAnswer"];
export type ModelList = Schemas["ModelList"];
export type ServerVersion = Schemas["VersionsModel"];
export type State = Schemas["StateModel"];

/** A part of a tool call; parts with the same `index` belong together. */
export interface ToolCallDelta {
  index: number;
  id?: string | null;
  type?: "function" | null;
  function?: { name?: string | null; arguments?: string | null } | null;
}

/** What a streamed event adds to one choice. */
export interface ChatChunkChoice {
  index: number;
  delta: {
    role?: string | null;
    content?: string | null;
    reasoning?: string | null;
    tool_calls?: ToolCallDelta[];
  };
  logprobs?: Schemas["ChatCompletionLogProbs"] | null;
  finish_reason?: string | null;
  stop_reason?: number | string | null;
}

/** One event of a streamed answer. The first one carries the receipt; with `verify`, so does the last. */
export interface ChatChunk {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: ChatChunkChoice[];
  usage?: Usage | null;
  system_fingerprint?: string | null;
  metaalign?: Receipt | null;
}

export type Profile = Schemas["ProfileModel"];
export type NewProfile = Schemas["NewProfile"];
export type ProfileChange = Schemas["ProfileChange"];
export type ProfilesDocument = Schemas["ProfilesDocument"];
export type ImportReport = Schemas["ImportReport"];
export type NewVersion = Schemas["NewVersion"];
export type LabelMove = Schemas["LabelMove"];
export type ProfileDiff = Schemas["DiffModel"];

/** One version of a profile; it never changes. */
export type ProfileVersion = Omit<Schemas["VersionModel"], "preferences"> & { preferences: Exclude<Preferences, string> };

export type NewFeedback = Schemas["FeedbackBody"];
export type FeedbackStored = Schemas["FeedbackModel"];
export type Erasure = Schemas["ErasureModel"];

export type Tenant = Schemas["TenantModel"];
export type NewTenant = Schemas["NewTenant"];
export type TenantChange = Schemas["TenantChange"];
export type Limits = Schemas["Limits"];
export type Key = Schemas["KeyModel"];
export type NewKey = Schemas["NewKeyBody"];
export type CreatedKey = Schemas["NewKeyModel"];
export type Rotation = Schemas["Rotation"];
export type AuditEntry = Schemas["AuditEntry"];
export type UserErasure = Schemas["AdminErase"];
