"""FLOPs no longer count an input embedding that is looked up and never multiplied."""

from __future__ import annotations

from alembic import op

from harness_store.migrations import engine_views

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the views of older databases anew; runs that did not tell of the embedding keep what they had."""
    op.execute("DROP VIEW trafficbench_metrics")
    op.execute("DROP VIEW result_rows")
    for statement in engine_views.create_statements(op.get_bind().dialect.name):
        # Colons of PostgreSQL's casts are no bound parameters.
        op.get_bind().exec_driver_sql(statement)


def downgrade() -> None:
    """Keep the views: the columns are the same."""
