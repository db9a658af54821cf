"""Events, and what the database says about itself."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from harness_store.models.base import Base, TextKey


class Event(Base):
    """Something that happened and that a person may want to know."""

    __tablename__ = "events"

    event_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at_realtime_ns: Mapped[int]
    agent_id: Mapped[str | None]
    job_id: Mapped[str | None]
    run_id: Mapped[str | None]
    task_id: Mapped[str | None]
    kind: Mapped[str]
    detail: Mapped[str]

    __table_args__ = (Index(None, "at_realtime_ns"), Index(None, "job_id"))


class Meta(Base):
    """Facts of the database itself; `product` names this program."""

    __tablename__ = "meta"

    key: Mapped[TextKey]
    value: Mapped[str]
