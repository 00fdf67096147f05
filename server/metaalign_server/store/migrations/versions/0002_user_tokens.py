"""The public keys that check user tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; keys from before sign no tokens until they are rotated."""
    op.add_column("api_keys", sa.Column("public_key", sa.LargeBinary(length=32), nullable=True))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("api_keys", "public_key")
