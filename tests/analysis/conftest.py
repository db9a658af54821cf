"""Fixtures of the analysis tests."""

from __future__ import annotations

from tests.store.conftest import new_postgres, postgres_url

__all__ = ["new_postgres", "postgres_url"]
