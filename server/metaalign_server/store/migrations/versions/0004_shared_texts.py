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
    op.add_column(
        "tenants", sa.Column("share_policy", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("profiles", sa.Column("shared_from", sa.Integer(), nullable=True))


def downgrade() -> None:
    """Remove them."""
    op.drop_column("tenants", "share_policy")
    op.drop_column("profiles", "shared_from")
