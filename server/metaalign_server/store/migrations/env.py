"""Alembic's entry point: runs migrations on the connection that `metaalign_server.store.migrate` passes."""

from __future__ import annotations

from alembic import context

from metaalign_server.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
