/** `/v1/admin`: tenants, keys, the audit log, erasure. Takes an operator's key. */

import { type Page, Pages } from "./pages.js";
import type { RequestOptions, Transport, WriteOptions } from "./transport.js";
import type {
  AuditEntry,
  CreatedKey,
  Erasure,
  Key,
  NewKey,
  NewTenant,
  Rotation,
  Tenant,
  TenantChange,
  UserErasure,
} from "./types.js";

// These routes take no `Idempotency-Key`, so what creates something is sent again only if it cannot have been done.

/** The operator's work. */
export class Admin {
  readonly #transport: Transport;
  readonly tenants: Tenants;
  readonly keys: Keys;

  constructor(transport: Transport) {
    this.#transport = transport;
    this.tenants = new Tenants(transport);
    this.keys = new Keys(transport);
  }

  /** List who changed what and when, newest first. */
  audit(
    query: { tenant?: string | undefined; limit?: number | undefined; before?: number | undefined } = {},
    options?: RequestOptions,
  ): Pages<AuditEntry> {
    return new Pages(
      (before) =>
        this.#transport.json<Page<AuditEntry>>(
          {
            method: "GET",
            path: "/v1/admin/audit",
            query: { ...query, before: before ?? query.before },
            repeatable: "always",
          },
          options,
        ),
      (entry) => entry.id,
    );
  }

  /** Delete everything that is kept about a user of any tenant. */
  erase(body: UserErasure, options?: RequestOptions): Promise<Erasure> {
    return this.#transport.json(
      { method: "POST", path: "/v1/admin/users/erase", body, repeatable: "always" },
      options,
    );
  }
}

/** The tenants of the server. */
export class Tenants {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Create a tenant. */
  create(body: NewTenant, options?: RequestOptions): Promise<Tenant> {
    return this.#transport.json(
      { method: "POST", path: "/v1/admin/tenants", body, repeatable: "if-refused" },
      options,
    );
  }

  /** Get one tenant. */
  get(name: string, options?: RequestOptions): Promise<Tenant> {
    const path = `/v1/admin/tenants/${encodeURIComponent(name)}`;
    return this.#transport.json({ method: "GET", path, repeatable: "always" }, options);
  }

  /** List tenants by name. */
  list(
    query: { limit?: number | undefined; after?: string | undefined } = {},
    options?: RequestOptions,
  ): Pages<Tenant> {
    return new Pages(
      (after) =>
        this.#transport.json<Page<Tenant>>(
          {
            method: "GET",
            path: "/v1/admin/tenants",
            query: { ...query, after: after ?? query.after },
            repeatable: "always",
          },
          options,
        ),
      (tenant) => tenant.name,
    );
  }

  /** Change the fields that are given; `policy` and `limits` are replaced as a whole, and null removes them. */
  change(name: string, body: TenantChange, options?: Omit<WriteOptions, "idempotencyKey">): Promise<Tenant> {
    return this.#transport.json(
      {
        method: "PATCH",
        path: `/v1/admin/tenants/${encodeURIComponent(name)}`,
        body,
        headers: { "if-match": options?.etag },
        // Repeated, a change that was made already would no longer match.
        repeatable: options?.etag === undefined ? "always" : "if-refused",
      },
      options,
    );
  }
}

/** The keys of all tenants. */
export class Keys {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Create a key; `key` is shown in this answer and never again. */
  create(body: NewKey, options?: RequestOptions): Promise<CreatedKey> {
    return this.#transport.json({ method: "POST", path: "/v1/admin/keys", body, repeatable: "if-refused" }, options);
  }

  /** List keys by id, without their secrets; revoked and expired ones too. */
  list(
    query: { tenant?: string | undefined; limit?: number | undefined; after?: string | undefined } = {},
    options?: RequestOptions,
  ): Pages<Key> {
    return new Pages(
      (after) =>
        this.#transport.json<Page<Key>>(
          {
            method: "GET",
            path: "/v1/admin/keys",
            query: { ...query, after: after ?? query.after },
            repeatable: "always",
          },
          options,
        ),
      (key) => key.id,
    );
  }

  /** Revoke a key. */
  revoke(id: string, options?: RequestOptions): Promise<Key> {
    const path = `/v1/admin/keys/${encodeURIComponent(id)}/revoke`;
    return this.#transport.json({ method: "POST", path, repeatable: "if-refused" }, options);
  }

  /** Create a key with the settings of an old one, which ends after `grace_seconds`. */
  rotate(id: string, body: Rotation = {}, options?: RequestOptions): Promise<CreatedKey> {
    const path = `/v1/admin/keys/${encodeURIComponent(id)}/rotate`;
    return this.#transport.json({ method: "POST", path, body, repeatable: "if-refused" }, options);
  }
}
