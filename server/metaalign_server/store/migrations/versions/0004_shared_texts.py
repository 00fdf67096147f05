"""Policies and profiles whose text is the operator's, so that tenants share its prefix-cache blocks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; nothing that was there before is shared."""
    for table, column in (("tenants", "share_policy"), ("profiles", "shared")):
        op.add_column(table, sa.Column(column, sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Remove them."""
    for table, column in (("tenants", "share_policy"), ("profiles", "shared")):
        op.drop_column(table, column)
