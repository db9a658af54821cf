"""Datasets that are imported under a name, cleaned and split; embeddings of texts, kept once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ABOUT_DATASET = ("licence", "parent", "owner", "mapping_json", "report_json")
ABOUT_QUERY = ("origin", "licence", "content_hash")


def upgrade() -> None:
    """Add the columns, absent in what was stored before, and the table."""
    for name in ABOUT_DATASET:
        op.add_column("datasets", sa.Column(name, sa.Text(), nullable=True))
    for name in ABOUT_QUERY:
        op.add_column("queries", sa.Column(name, sa.Text(), nullable=True))
    op.create_index("ix_jobs_dataset_id", "jobs", ["dataset_id"])
    op.create_table(
        "embeddings",
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("model", "content_hash", name="pk_embeddings"),
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("embeddings")
    op.drop_index("ix_jobs_dataset_id", "jobs")
    for name in ABOUT_QUERY:
        op.drop_column("queries", name)
    for name in ABOUT_DATASET:
        op.drop_column("datasets", name)
