"""Routers that torch trains on frozen embeddings: Adam on mini-batches, and weights that need no torch afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness_analysis.outcomes.matrix import FloatArray, IntArray
from harness_analysis.routing.finetuned.libraries import Torch
from harness_analysis.routing.finetuned.training import held_out, train


def descend(
    torch: Torch, net: Any, examples: int, loss_of: Callable[[IntArray, bool], Any], router: Any
) -> None:
    """Train all parameters; the epoch with the least loss on held-out examples is kept."""
    rows, checked = held_out(examples, router.schedule.validation_share, router.seed)

    def held_out_score() -> float:
        with torch.inference_mode():
            return -float(loss_of(checked, False))

    train(
        torch,
        [(net.parameters(), router.schedule.rate)],
        len(rows),
        lambda chosen: loss_of(rows[chosen], True),
        router.schedule,
        seed=router.seed,
        score=held_out_score if len(checked) else None,
        module=net,
        progress=router.progress,
        name=f"router {router.name}",
    )


def as_arrays(net: Any) -> dict[str, FloatArray]:
    """Return the parameters as numpy arrays, so that a fitted router routes and is saved without torch."""
    return {name: tensor.detach().double().numpy() for name, tensor in net.items()}
