"""Alembic's entry: runs the revisions on the connection that `migrate` holds a transaction on."""

from __future__ import annotations

from alembic import context

from harness_store.models import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
