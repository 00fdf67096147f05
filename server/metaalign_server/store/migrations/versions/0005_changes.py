"""A count of the changes to what servers keep in memory, so that they can ask for all of it at once.

The database counts by triggers: so it counts what an older server writes, and what somebody writes by hand.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TABLES = ("tenants", "api_keys", "profiles", "profile_labels")
_EVENTS = ("insert", "update", "delete")
_COUNT = "UPDATE changes SET count = count + 1"
_SLOTS = 32
"""Rows that PostgreSQL's sessions count in: two writers wait for each other only if they share one."""
_FUNCTION = (
    "CREATE FUNCTION metaalign_count_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    f" {_COUNT} WHERE slot = mod(pg_backend_pid(), {_SLOTS}); RETURN NULL; END $$"
)


def upgrade() -> None:
    """Create the table and its triggers."""
    op.create_table(
        "changes",
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("slot", name=op.f("pk_changes")),
    )
    postgres = op.get_bind().dialect.name == "postgresql"
    slots = [{"slot": slot, "count": 0} for slot in range(_SLOTS if postgres else 1)]
    op.bulk_insert(sa.table("changes", sa.column("slot"), sa.column("count")), slots)
    if postgres:
        op.execute(_FUNCTION)
        for table in _TABLES:
            op.execute(
                f"CREATE TRIGGER count_change AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}"
                " FOR EACH STATEMENT EXECUTE FUNCTION metaalign_count_change()"
            )
        return
    for table in _TABLES:
        for event in _EVENTS:
            op.execute(f"CREATE TRIGGER count_{table}_{event} AFTER {event} ON {table} BEGIN {_COUNT}; END")


def downgrade() -> None:
    """Remove them."""
    if op.get_bind().dialect.name == "postgresql":
        for table in _TABLES:
            op.execute(f"DROP TRIGGER count_change ON {table}")
        op.execute("DROP FUNCTION metaalign_count_change()")
    else:
        for table in _TABLES:
            for event in _EVENTS:
                op.execute(f"DROP TRIGGER count_{table}_{event}")
    op.drop_table("changes")
