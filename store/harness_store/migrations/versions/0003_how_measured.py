"""How a joule was made: the other measure's value, the sensor's period, the stamps' lag, what the load explains."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NEW_ANSWERS = "ix_generations_run_id_received_realtime_ns"
RUN_NUMBERS = ("cross_check_joules", "period_s", "lag_s", "lag_standard_error_s", "explained")


def upgrade() -> None:
    """Add the columns; what was computed before has none of them."""
    op.add_column("measurements", sa.Column("cross_check_joules", sa.Double(), nullable=True))
    for name in RUN_NUMBERS:
        op.add_column("run_energy", sa.Column(name, sa.Double(), nullable=True))
    op.add_column("run_energy", sa.Column("cross_check_method", sa.Text(), nullable=True))
    op.add_column("run_energy", sa.Column("load_levels_json", sa.Text(), nullable=True))
    op.create_index(NEW_ANSWERS, "generations", ["run_id", "received_realtime_ns"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index(NEW_ANSWERS, "generations")
    op.drop_column("measurements", "cross_check_joules")
    for name in (*RUN_NUMBERS, "cross_check_method", "load_levels_json"):
        op.drop_column("run_energy", name)
