"""Seconds of samples carry a small number in place of three names; `samples_1hz` becomes a view of the same columns."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_VALUES = (
    "realtime_s, n, power_n, power_w_avg, power_w_min, power_w_max, energy_j_last, memory_used_bytes_max,"
    " temperature_c_max"
)
_NAMES = "agent_id, source_id, clock_id"
_SAME = "r.agent_id = s.agent_id AND r.source_id = s.source_id AND r.clock_id = s.clock_id"


def upgrade() -> None:
    """Number the series, move their seconds, and give them under the old name."""
    op.create_table(
        "sample_series",
        sa.Column("series", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in _NAMES.split(", ")),
        sa.PrimaryKeyConstraint("series", name="pk_sample_series"),
        sa.UniqueConstraint(
            "agent_id", "source_id", "clock_id", name="uq_sample_series_agent_id_source_id_clock_id"
        ),
    )
    op.create_table(
        "sample_seconds",
        sa.Column("series", sa.BigInteger(), nullable=False),
        sa.Column("second", sa.BigInteger(), nullable=False),
        *_value_columns(),
        sa.PrimaryKeyConstraint("series", "second", name="pk_sample_seconds"),
        sqlite_with_rowid=False,
    )
    op.execute(
        f"INSERT INTO sample_series ({_NAMES}) SELECT DISTINCT {_NAMES} FROM samples_1hz"  # noqa: S608
        f" ORDER BY {_NAMES}"
    )
    op.execute(
        f"INSERT INTO sample_seconds (series, second, {_VALUES}) SELECT s.series, second, {_VALUES}"  # noqa: S608
        f" FROM sample_series AS s JOIN samples_1hz AS r ON {_SAME} ORDER BY s.series, second"
    )
    op.drop_table("samples_1hz")
    op.execute(
        f"CREATE VIEW samples_1hz AS SELECT {_NAMES}, second, {_VALUES}"  # noqa: S608
        " FROM sample_series AS s JOIN sample_seconds AS r ON r.series = s.series"
    )


def downgrade() -> None:
    """Make the table anew from the view."""
    op.create_table(
        "seconds_of_names",
        *(sa.Column(name, sa.Text(), nullable=False) for name in _NAMES.split(", ")),
        sa.Column("second", sa.BigInteger(), nullable=False),
        *_value_columns(),
        sa.PrimaryKeyConstraint("agent_id", "source_id", "clock_id", "second", name="pk_samples_1hz"),
    )
    columns = f"{_NAMES}, second, {_VALUES}"
    op.execute(f"INSERT INTO seconds_of_names ({columns}) SELECT {columns} FROM samples_1hz")  # noqa: S608
    op.execute("DROP VIEW samples_1hz")
    op.rename_table("seconds_of_names", "samples_1hz")
    op.drop_table("sample_seconds")
    op.drop_table("sample_series")


def _value_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column(name, sa.BigInteger() if whole else sa.Double(), nullable=not whole)
        for name in _VALUES.split(", ")
        for whole in (name in {"n", "power_n"},)
    ]
