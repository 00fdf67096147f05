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
const labelPathOf = (name: string, label: string): string => `${pathOf(name)}/labels/${encodeURIComponent(label)}`;

/** A change: the key makes a second try the same change as the first. */
function changing(method: Call["method"], path: string, options: WriteOptions | undefined, body?: unknown): Call {
  return {
    method,
    path,
    body,
    headers: { "idempotency-key": options?.idempotencyKey ?? randomId(), "if-match": options?.etag },
    repeatable: "always",
  };
}

/** Named, versioned preferences. */
export class Profiles {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Create a profile with its first version. */
  create(body: NewProfile, options?: Omit<WriteOptions, "etag">): Promise<Profile> {
    return this.#transport.json(changing("POST", ROOT, options, body), options);
  }

  /** Get one profile; its `etag` is for `etag`. */
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
  change(name: string, body: ProfileChange, options?: WriteOptions): Promise<Profile> {
    return this.#transport.json(changing("PATCH", pathOf(name), options, body), options);
  }

  /** Delete a profile with all versions and labels; its version numbers are not given again. */
  async delete(name: string, options?: WriteOptions): Promise<void> {
    await this.#transport.json(changing("DELETE", pathOf(name), options), options);
  }

  /** Add the next version; labels do not move. */
  addVersion(name: string, body: NewVersion, options?: WriteOptions): Promise<ProfileVersion> {
    return this.#transport.json(changing("POST", `${pathOf(name)}/versions`, options, body), options);
  }

  /** Get one version. */
  version(name: string, number: number, options?: RequestOptions): Promise<ProfileVersion> {
    const path = `${pathOf(name)}/versions/${number}`;
    return this.#transport.json({ method: "GET", path, repeatable: "always" }, options);
  }

  /** List versions, newest first. */
  versions(
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

  /** Get the changes from one version to another. */
  diff(name: string, query: { from: number; to: number }, options?: RequestOptions): Promise<ProfileDiff> {
    return this.#transport.json({ method: "GET", path: `${pathOf(name)}/diff`, query, repeatable: "always" }, options);
  }

  /** Point a label at a version, or at several by weight. */
  moveLabel(name: string, label: string, body: LabelMove, options?: WriteOptions): Promise<Profile> {
    return this.#transport.json(changing("PUT", labelPathOf(name, label), options, body), options);
  }

  /** Delete a label. */
  deleteLabel(name: string, label: string, options?: WriteOptions): Promise<Profile> {
    return this.#transport.json(changing("DELETE", labelPathOf(name, label), options), options);
  }

  /** Point a label back to where it was before its last move. */
  rollBack(name: string, label: string, options?: WriteOptions): Promise<Profile> {
    return this.#transport.json(changing("POST", `${labelPathOf(name, label)}/rollback`, options), options);
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
  import(document: ProfilesDocument | string, options?: Omit<WriteOptions, "etag">): Promise<ImportReport> {
    const call = changing("POST", `${ROOT}:import`, options, document);
    if (typeof document === "string") call.contentType = "application/yaml";
    return this.#transport.json(call, options);
  }
}
