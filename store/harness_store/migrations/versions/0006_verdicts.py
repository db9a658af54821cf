"""Verdicts with reasons, options of methods, and the answers of judges."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table."""
    op.add_column("evaluations", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("jobs", sa.Column("evaluation_options_json", sa.Text(), nullable=True))
    op.create_table(
        "judgements",
        sa.Column("content_hash", sa.Text(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("judge", "model", "form", "presented", "raw")
        ),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in ("prompt_tokens", "output_tokens")),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("cost_usd", "seconds")),
        sa.Column("answered_realtime_ns", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("content_hash", name="pk_judgements"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("judgements")
    op.drop_column("jobs", "evaluation_options_json")
    op.drop_column("evaluations", "reason")
