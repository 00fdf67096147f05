/** The client of a MetaAlign server. */

import { Admin } from "./admin.js";
import { Profiles } from "./profiles.js";
import { ChatStream } from "./streaming.js";
import { type Fetch, type RequestOptions, type Settings, Transport } from "./transport.js";
import type {
  AlignAnswer,
  AlignRequest,
  ChatAnswer,
  ChatRequest,
  Erasure,
  FeedbackStored,
  ModelList,
  NewFeedback,
  RenderAnswer,
  RenderRequest,
  ServerVersion,
  State,
  TokenizeAnswer,
  TokenizeRequest,
} from "./types.js";

/** Options of a client. */
export interface ClientOptions {
  /** Where the server is, with or without `/v1`; `METAALIGN_BASE_URL`, or `http://127.0.0.1:8000`, if left out. */
  baseURL?: string | undefined;
  /** A key, or in a browser a user token; `METAALIGN_API_KEY` if left out. */
  apiKey?: string | undefined;
  /** Milliseconds without anything from the server after which a try is given up; ten minutes if left out. */
  timeout?: number | undefined;
  /** How often a call is tried again where that is safe; 2 if left out. */
  maxRetries?: number | undefined;
  /** Stands in for the platform's `fetch`. */
  fetch?: Fetch | undefined;
}

type ChatBody = Omit<ChatRequest, "stream">;

// Browsers have no environment, and `process` is not declared there.
const environment = (globalThis as { process?: { env?: Record<string, string | undefined> } }).process?.env ?? {};

/** The client of a MetaAlign server. */
export class MetaAlign {
  readonly chat: Chat;
  readonly profiles: Profiles;
  readonly feedback: Feedback;
  readonly admin: Admin;
  readonly #transport: Transport;
  readonly #settings: Settings;

  constructor(options: ClientOptions = {}) {
    const given = options.baseURL ?? environment["METAALIGN_BASE_URL"] ?? "http://127.0.0.1:8000";
    this.#settings = {
      baseURL: given.replace(/\/+$/, "").replace(/\/v1$/, ""),
      apiKey: options.apiKey ?? environment["METAALIGN_API_KEY"],
      timeout: options.timeout ?? 600_000,
      maxRetries: options.maxRetries ?? 2,
      // Looked up at each call, so that a test or a framework can replace it; browsers want it called on `globalThis`.
      fetch: options.fetch ?? ((input, init) => globalThis.fetch(input, init)),
    };
    this.#transport = new Transport(this.#settings);
    this.chat = new Chat(this.#transport);
    this.profiles = new Profiles(this.#transport);
    this.feedback = new Feedback(this.#transport);
    this.admin = new Admin(this.#transport);
  }

  /** Where the server is, without `/v1`. */
  get baseURL(): string {
    return this.#settings.baseURL;
  }

  /** What sends this client's requests. */
  get fetch(): Fetch {
    return this.#settings.fetch;
  }

  /** A copy of this client in which the given options are different. */
  withOptions(options: ClientOptions): MetaAlign {
    const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
    return new MetaAlign({ ...this.#settings, ...given });
  }

  /** One query, one answer. */
  align(body: AlignRequest, options?: RequestOptions): Promise<AlignAnswer> {
    return this.#transport.json({ method: "POST", path: "/v1/align", body, repeatable: "before-answer" }, options);
  }

  /** A dry run: what the model would be told. */
  render(body: RenderRequest, options?: RequestOptions): Promise<RenderAnswer> {
    return this.#transport.json(
      { method: "POST", path: "/v1/preferences/render", body, repeatable: "always" },
      options,
    );
  }

  /** The token ids that the model would get, those of the preferences included. */
  tokenize(body: TokenizeRequest, options?: RequestOptions): Promise<TokenizeAnswer> {
    return this.#transport.json({ method: "POST", path: "/tokenize", body, repeatable: "always" }, options);
  }

  /** The models that the server serves. */
  models(options?: RequestOptions): Promise<ModelList> {
    return this.#transport.json({ method: "GET", path: "/v1/models", repeatable: "always" }, options);
  }

  /** What the server is made of. */
  version(options?: RequestOptions): Promise<ServerVersion> {
    return this.#transport.json({ method: "GET", path: "/version", repeatable: "always" }, options);
  }

  /** Whether the server takes requests; an `APIError` with the status 503 if it does not. */
  ready(options?: RequestOptions): Promise<State> {
    return this.#transport.json({ method: "GET", path: "/readyz", repeatable: "always" }, options);
  }
}

/** `/v1/chat/completions`. */
export class Chat {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Answer a conversation; with `stream: true`, the answer as it comes. */
  create(body: ChatBody & { stream: true }, options?: RequestOptions): Promise<ChatStream>;
  create(body: ChatBody & { stream?: false | null }, options?: RequestOptions): Promise<ChatAnswer>;
  create(body: ChatBody & { stream?: boolean | null }, options?: RequestOptions): Promise<ChatAnswer | ChatStream>;
  async create(
    body: ChatBody & { stream?: boolean | null },
    options?: RequestOptions,
  ): Promise<ChatAnswer | ChatStream> {
    const call = { method: "POST", path: "/v1/chat/completions", body, repeatable: "before-answer" } as const;
    if (body.stream !== true) return this.#transport.json<ChatAnswer>(call, options);
    const streaming = { ...call, headers: { accept: "text/event-stream" } };
    return new ChatStream(await this.#transport.open(streaming, options));
  }
}

/** `/v1/feedback`: what users think of answers, where the server keeps exchanges. */
export class Feedback {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Rate an answer by its id, or say what it should have been; later feedback replaces earlier feedback. */
  give(body: NewFeedback, options?: RequestOptions): Promise<FeedbackStored> {
    return this.#transport.json({ method: "POST", path: "/v1/feedback", body, repeatable: "always" }, options);
  }

  /** Delete everything that is kept about a user of the key's tenant. */
  erase(user: string, options?: RequestOptions): Promise<Erasure> {
    return this.#transport.json(
      { method: "POST", path: "/v1/feedback/erase", body: { user }, repeatable: "always" },
      options,
    );
  }
}
