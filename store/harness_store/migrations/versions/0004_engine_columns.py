"""Views with what real engines tell: precision, parameters, engine settings, published figures."""

from __future__ import annotations

from alembic import op

from harness_store.migrations import engine_views, first_views

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the views anew; everything in them is derived from what is stored already."""
    _replace(engine_views.create_statements(op.get_bind().dialect.name))


def downgrade() -> None:
    """Go back to the first views."""
    _replace(first_views.create_statements(op.get_bind().dialect.name))


def _replace(statements: list[str]) -> None:
    op.execute("DROP VIEW trafficbench_metrics")
    op.execute("DROP VIEW result_rows")
    for statement in statements:
        # Colons of PostgreSQL's casts are no bound parameters.
        op.get_bind().exec_driver_sql(statement)
