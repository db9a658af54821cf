"""How fast an agent's clock drifts against the coordinator's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0006"
branch_labels = None
depends_on = None

OF_AGENT = ("clock_drift_ppm", "clock_drift_error_ppm")
OF_OFFSET = ("drift_ppm", "drift_error_ppm")


def upgrade() -> None:
    """Add the columns; of what was stored before no drift is known."""
    for name in OF_AGENT:
        op.add_column("agents", sa.Column(name, sa.Double(), nullable=True))
    for name in OF_OFFSET:
        op.add_column("clock_offsets", sa.Column(name, sa.Double(), nullable=True))


def downgrade() -> None:
    """Drop them."""
    for name in OF_OFFSET:
        op.drop_column("clock_offsets", name)
    for name in OF_AGENT:
        op.drop_column("agents", name)
