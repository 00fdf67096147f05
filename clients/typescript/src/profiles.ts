/** `/v1/profiles`: named, versioned preferences of the key's tenant. */

import { type Page, Pages } from "./pages.js";
import { type Call, randomId, type RequestOptions, type Transport, type WriteOptions } from "./transport.js";
import type {
  ImportReport,
  LabelMove,
  NewProfile,
  NewVersion,
  Profile,
  ProfileChange,
  ProfileDiff,
  ProfilesDocument,
  ProfileVersion,
} from "./types.js";

const ROOT = "/v1/profiles";

const pathOf = (name: string): string => `${ROOT}/${encodeURIComponent(name)}`;

/** A change: the key makes a second try the same change as the first. */
function change(method: Call["method"], path: string, options: WriteOptions | undefined, body?: unknown): Call {
  return {
    method,
    path,
    body,
    headers: { "idempotency-key": options?.idempotencyKey ?? randomId(), "if-match": options?.ifMatch },
    repeatable: "always",
  };
}

/** Named, versioned preferences. */
export class Profiles {
  readonly #transport: Transport;
  readonly versions: ProfileVersions;
  readonly labels: ProfileLabels;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.versions = new ProfileVersions(transport);
    this.labels = new ProfileLabels(transport);
  }

  /** Create a profile with its first version. */
  create(body: NewProfile, options?: Omit<WriteOptions, "ifMatch">): Promise<Profile> {
    return this.#transport.json(change("POST", ROOT, options, body), options);
  }

  /** Get one profile; its `etag` is for `ifMatch`. */
  get(name: string, options?: RequestOptions): Promise<Profile> {
    return this.#transport.json({ method: "GET", path: pathOf(name), repeatable: "always" }, options);
  }

  /** List profiles by name. */
  list(
    query: { limit?: number | undefined; after?: string | undefined; archived?: boolean | undefined } = {},
    options?: RequestOptions,
  ): Pages<Profile> {
    return new Pages(
      (after) =>
        this.#transport.json<Page<Profile>>(
          { method: "GET", path: ROOT, query: { ...query, after: after ?? query.after }, repeatable: "always" },
          options,
        ),
      (profile) => profile.name,
    );
  }

  /** Archive or restore a profile, or set what it learns. Requests do not find an archived profile. */
  update(name: string, body: ProfileChange, options?: WriteOptions): Promise<Profile> {
    return this.#transport.json(change("PATCH", pathOf(name), options, body), options);
  }

  /** Delete a profile with all versions and labels; its version numbers are not given again. */
  async delete(name: string, options?: WriteOptions): Promise<void> {
    await this.#transport.json(change("DELETE", pathOf(name), options), options);
  }

  /** Get the changes from one version to another. */
  diff(name: string, query: { from: number; to: number }, options?: RequestOptions): Promise<ProfileDiff> {
    return this.#transport.json({ method: "GET", path: `${pathOf(name)}/diff`, query, repeatable: "always" }, options);
  }

  /** Point a label back to where it was before its last move. */
  rollback(name: string, label: string, options?: WriteOptions): Promise<Profile> {
    const path = `${pathOf(name)}/labels/${encodeURIComponent(label)}/rollback`;
    return this.#transport.json(change("POST", path, options), options);
  }

  /** Export all profiles with all versions and labels. */
  export(options?: RequestOptions): Promise<ProfilesDocument> {
    return this.#transport.json({ method: "GET", path: `${ROOT}:export`, repeatable: "always" }, options);
  }

  /** Export them as YAML. */
  exportYaml(options?: RequestOptions): Promise<string> {
    const call: Call = {
      method: "GET",
      path: `${ROOT}:export`,
      query: { format: "yaml" },
      headers: { accept: "application/yaml" },
      repeatable: "always",
    };
    return this.#transport.text(call, options);
  }

  /** Import what an export gave, all or nothing; a text is YAML. */
  import(document: ProfilesDocument | string, options?: Omit<WriteOptions, "ifMatch">): Promise<ImportReport> {
    const call = change("POST", `${ROOT}:import`, options, document);
    if (typeof document === "string") call.contentType = "application/yaml";
    return this.#transport.json(call, options);
  }
}

/** The versions of profiles; they are numbered and never change. */
export class ProfileVersions {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Add the next version; labels do not move. */
  create(name: string, body: NewVersion, options?: WriteOptions): Promise<ProfileVersion> {
    return this.#transport.json(change("POST", `${pathOf(name)}/versions`, options, body), options);
  }

  /** Get one version. */
  get(name: string, version: number, options?: RequestOptions): Promise<ProfileVersion> {
    const path = `${pathOf(name)}/versions/${version}`;
    return this.#transport.json({ method: "GET", path, repeatable: "always" }, options);
  }

  /** List versions, newest first. */
  list(
    name: string,
    query: { limit?: number | undefined; before?: number | undefined } = {},
    options?: RequestOptions,
  ): Pages<ProfileVersion> {
    const path = `${pathOf(name)}/versions`;
    return new Pages(
      (before) =>
        this.#transport.json<Page<ProfileVersion>>(
          { method: "GET", path, query: { ...query, before: before ?? query.before }, repeatable: "always" },
          options,
        ),
      (version) => version.version,
    );
  }
}

/** The labels of profiles: names that move between versions. */
export class ProfileLabels {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Point a label at a version, or at several by weight. */
  move(name: string, label: string, body: LabelMove, options?: WriteOptions): Promise<Profile> {
    const path = `${pathOf(name)}/labels/${encodeURIComponent(label)}`;
    return this.#transport.json(change("PUT", path, options, body), options);
  }

  /** Delete a label. */
  delete(name: string, label: string, options?: WriteOptions): Promise<Profile> {
    const path = `${pathOf(name)}/labels/${encodeURIComponent(label)}`;
    return this.#transport.json(change("DELETE", path, options), options);
  }
}
