"""Options that commands which learn routers share: one name, one default, one sentence each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
LARGEST_SEED = 2**32 - 1
"""Of the generators that scikit-learn and torch use."""
MOST_RESAMPLES = 1_000_000
ROUTER_NAMES = "knn:K, encoder[:FOLDER], bert[:FOLDER], decoder:FOLDER, decoder-binary:FOLDER"

embedding_option = click.option(
    "--embedding", type=click.Choice(["tfidf", "minilm"]), default="tfidf", show_default=True
)
router_option = click.option(
    "--router", "name", default="knn", show_default=True, help=f"Name; {ROUTER_NAMES}."
)
threshold_option = click.option(
    "--threshold", type=float, default=0.5, show_default=True, help="Score that a model must exceed."
)


def seed_option(of: str = "everything that is drawn at random") -> Callable[[F], F]:
    """Return `--seed`; `of` says what is drawn by it."""
    whose = click.IntRange(0, LARGEST_SEED)
    return click.option("--seed", type=whose, default=0, show_default=True, help=f"Of {of}.")


def train_share_option(what: str = "Queries to learn from.", default: float = 0.7) -> Callable[[F], F]:
    """Return `--train-share`."""
    return click.option("--train-share", type=float, default=default, show_default=True, help=what)


def resamples_option(default: int = 2_000) -> Callable[[F], F]:
    """Return `--resamples`, of the bootstrap."""
    return click.option(
        "--resamples", type=click.IntRange(100, MOST_RESAMPLES), default=default, show_default=True
    )
