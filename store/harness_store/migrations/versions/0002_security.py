"""Join tokens and certificates."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the two tables."""
    op.create_table(
        "join_tokens",
        sa.Column("token_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created_realtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_realtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("used_realtime_ns", sa.BigInteger(), nullable=True),
        sa.Column("used_key_sha256", sa.Text(), nullable=True),
        sa.Column("revoked_realtime_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_id", name="pk_join_tokens"),
    )
    op.create_table(
        "certificates",
        sa.Column("serial", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("key_sha256", sa.Text(), nullable=False),
        sa.Column("token_id", sa.Text(), nullable=True),
        sa.Column("issued_realtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("expires_realtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("revoked_realtime_ns", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("serial", name="pk_certificates"),
    )
    op.create_index("ix_certificates_subject", "certificates", ["subject"])
    op.create_index("ix_certificates_expires_realtime_ns", "certificates", ["expires_realtime_ns"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("certificates")
    op.drop_table("join_tokens")
