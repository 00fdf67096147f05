"""The tables. Times are milliseconds since 1970 in UTC; JSON that is hashed or returned verbatim is stored as text."""

from __future__ import annotations

import time

import sqlalchemy as sa

__all__ = [
    "api_keys",
    "audit",
    "changes",
    "exchanges",
    "feedback",
    "idempotency",
    "labels",
    "metadata",
    "now_ms",
    "profiles",
    "responses",
    "server_state",
    "tenants",
    "versions",
]

# Constraint names are fixed so that a migration can drop a constraint on either database.
metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite increments only `INTEGER PRIMARY KEY`.
Identity = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def now_ms() -> int:
    """Return the milliseconds since 1970."""
    return time.time_ns() // 1_000_000


server_state = sa.Table(
    "server_state",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

# How often keys, tenants, profiles and labels have changed: the sum over all rows. Triggers write it (migration 0005).
changes = sa.Table(
    "changes",
    metadata,
    sa.Column("slot", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("count", sa.BigInteger, nullable=False),
)

tenants = sa.Table(
    "tenants",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("name", sa.String(63), nullable=False, unique=True),
    sa.Column("policy", sa.Text),  # System preferences, locked for every request
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("share_cache", sa.Boolean, nullable=False),
    sa.Column("share_policy", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("revision", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("disabled_at", sa.BigInteger),
)

api_keys = sa.Table(
    "api_keys",
    metadata,
    sa.Column("id", sa.String(24), primary_key=True),  # the public part of the key
    sa.Column("tenant_id", sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("name", sa.String(100), nullable=False),
    sa.Column("digest", sa.LargeBinary(32), nullable=False),
    sa.Column("public_key", sa.LargeBinary(32)),  # Ed25519, for user tokens; older keys have none
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("revoked_at", sa.BigInteger),
)

profiles = sa.Table(
    "profiles",
    metadata,
    sa.Column("id", Identity, primary_key=True),
    sa.Column("tenant_id", sa.ForeignKey("tenants.id", ondelete="CASCADE"), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("latest", sa.Integer, nullable=False),  # numbers are never reused, even after a deletion
    sa.Column("revision", sa.Integer, nullable=False),  # incremented by every change; the ETag
    sa.Column("learn_examples", sa.Integer, nullable=False),
    sa.Column("learn_scope", sa.String(8), nullable=False),
    sa.Column("shared_from", sa.Integer),  # versions from this one on are the operator's; null: none
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("archived_at", sa.BigInteger),
    sa.Column("deleted_at", sa.BigInteger),
    sa.UniqueConstraint("tenant_id", "name"),
)

versions = sa.Table(
    "profile_versions",
    metadata,
    sa.Column("profile_id", sa.ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("preferences", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("note", sa.String(500), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("created_by", sa.String(24), nullable=False),
)

labels = sa.Table(
    "profile_labels",
    metadata,
    sa.Column("profile_id", sa.ForeignKey("profiles.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("label", sa.String(63), primary_key=True),
    sa.Column("targets", sa.JSON, nullable=False),  # [[version, weight], …]
    sa.Column("history", sa.JSON, nullable=False),  # earlier targets, latest last
    sa.Column("protected", sa.Boolean, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
)

idempotency = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("tenant_id", sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("key", sa.String(255), primary_key=True),
    sa.Column("fingerprint", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("etag", sa.String(80)),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
)

exchanges = sa.Table(
    "exchanges",
    metadata,
    sa.Column("tenant_id", sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.String(128), primary_key=True),  # the id of the answer
    sa.Column("user_ref", sa.String(64)),  # keyed hash of the user's id
    sa.Column("profile_id", sa.ForeignKey("profiles.id", ondelete="SET NULL")),
    sa.Column("profiles", sa.JSON, nullable=False),
    sa.Column("messages", sa.Text, nullable=False),
    # Hash of the messages; matches answers to the same prompt.
    sa.Column("prompt_sha256", sa.String(64), nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.Index(None, "tenant_id", "user_ref"),
    sa.Index(None, "tenant_id", "prompt_sha256"),
    sa.Index(None, "profile_id", "user_ref"),
)

feedback = sa.Table(
    "feedback",
    metadata,
    sa.Column("id", Identity, primary_key=True),
    sa.Column("tenant_id", sa.String(32), nullable=False),
    sa.Column("exchange_id", sa.String(128), nullable=False),
    sa.Column("rating", sa.Integer),  # 1 liked, -1 disliked
    sa.Column("chosen", sa.Text),
    sa.Column("rejected", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.ForeignKeyConstraint(
        ["tenant_id", "exchange_id"], ["exchanges.tenant_id", "exchanges.id"], ondelete="CASCADE"
    ),
    sa.Index(None, "tenant_id", "exchange_id"),
)

responses = sa.Table(
    "responses",
    metadata,
    sa.Column("tenant_id", sa.ForeignKey("tenants.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("id", sa.String(128), primary_key=True),
    sa.Column("user_ref", sa.String(64)),  # keyed hash of the user's id
    sa.Column("previous_id", sa.String(128)),  # no foreign key: what came before may be deleted on its own
    sa.Column("input", sa.Text, nullable=False),  # the items of this request alone
    sa.Column("document", sa.Text, nullable=False),  # the answer as the client got it
    sa.Column("size", sa.Integer, nullable=False),  # bytes of the two
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.Index(None, "tenant_id", "user_ref"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", Identity, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("tenant_id", sa.String(32), nullable=False, index=True),  # outlives the tenant
    sa.Column("actor", sa.String(63), nullable=False),
    sa.Column("action", sa.String(63), nullable=False),
    sa.Column("object", sa.String(200), nullable=False),
    sa.Column("before", sa.String(64)),  # SHA-256 of the state
    sa.Column("after", sa.String(64)),
)
