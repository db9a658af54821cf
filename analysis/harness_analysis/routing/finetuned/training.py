"""Fine-tuning as TrafficBench section 4.4 does it: Adam, linear warm-up, cosine decay, early stopping."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness_analysis.errors import RoutingError
from harness_analysis.outcomes.matrix import IntArray
from harness_analysis.routing.finetuned.libraries import Torch

Progress = Callable[[int, int, str], None]
"""Told steps done, steps in all, and a note."""


def silent(_done: int, _total: int, _note: str) -> None:
    """Report no progress."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast to train; the defaults are TrafficBench's (section 4.4, appendix C).

    Args:
        epochs: at most; 10 for encoders and 5 for decoders in appendix C.
        batch: examples of one step of the optimiser.
        rate: learning rate of the pretrained weights, at its peak.
        head_rate: of weights that start at random; the paper names one rate for both.
        warmup_share: of the steps, over which the rates rise linearly from 0.
        patience: epochs without a better validation score before training stops; the best weights are kept.
        validation_share: of the training queries, held out to choose the epoch; none below 20 queries.
        micro_batch: examples that pass the model at once; their gradients add up to the batch's.
    """

    epochs: int = 10
    batch: int = 64
    rate: float = 5e-6
    head_rate: float = 1e-3
    warmup_share: float = 0.1
    patience: int = 3
    validation_share: float = 0.1
    micro_batch: int = 16

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "micro_batch", "patience"):
            if getattr(self, name) < 1:
                raise RoutingError(f"training needs at least 1 as {name}, not {getattr(self, name)}")
        for name in ("rate", "head_rate"):
            if not 0 < getattr(self, name) < 1:
                raise RoutingError(f"a learning rate lies between 0 and 1, not {getattr(self, name):g}")


def rate_factor(step: int, steps: int, warmup_share: float = 0.1) -> float:
    """Return what the peak learning rate is multiplied by at a step, counted from 0.

    Linear from 1 / w to 1 over the w warm-up steps, then half a cosine down to 0 at `steps`.

    Source: TrafficBench section 4.4 and appendix C.
    """
    warm = round(warmup_share * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def held_out(n: int, share: float, seed: int) -> tuple[IntArray, IntArray]:
    """Return the rows to train on and those to choose the epoch by (none where fewer than 20 rows are there)."""
    order = np.random.default_rng(seed).permutation(n)
    cut = n - round(share * n) if n >= 20 else n
    return order[:cut], order[cut:]


def train(
    torch: Torch,
    groups: Sequence[tuple[Any, float]],
    examples: int,
    loss_of: Callable[[IntArray], Any],
    schedule: Schedule,
    *,
    seed: int,
    score: Callable[[], float] | None = None,
    module: Any = None,
    progress: Progress = silent,
    name: str = "router",
) -> list[float]:
    """Train parameters and return the mean loss of each epoch.

    Args:
        torch: the library.
        groups: (parameters, peak learning rate).
        examples: how many there are.
        loss_of: mean loss of some examples, by index.
        schedule: of the training.
        seed: of the order of the examples.
        score: of held-out examples, greater is better; asked after each epoch, None where nothing is held out.
        module: whose weights of the best epoch are kept.
        progress: told after each step.
        name: of the router, for messages.

    Raises:
        RoutingError: the loss became NaN or infinite.
    """
    # `foreach` and `fused` add up in an order that depends on the machine.
    adam = torch.optim.Adam(
        [{"params": list(p), "lr": rate, "peak": rate} for p, rate in groups], foreach=False
    )
    random = np.random.default_rng(seed)
    per_epoch = math.ceil(examples / schedule.batch)
    steps = schedule.epochs * per_epoch
    best, best_state, since_best, losses = -math.inf, None, 0, []
    done, note = 0, ""
    for epoch in range(schedule.epochs):
        order, total = random.permutation(examples), 0.0
        for start in range(0, examples, schedule.batch):
            chosen = order[start : start + schedule.batch]
            for group in adam.param_groups:
                group["lr"] = group["peak"] * rate_factor(done, steps, schedule.warmup_share)
            adam.zero_grad(set_to_none=True)
            for part in range(0, len(chosen), schedule.micro_batch):
                rows = chosen[part : part + schedule.micro_batch]
                loss = loss_of(rows) * (len(rows) / len(chosen))
                loss.backward()
                total += float(loss.detach()) * len(chosen)
            if not math.isfinite(total):
                raise RoutingError(f"{name}: the loss became {total:g}; train with a smaller --learning-rate")
            adam.step()
            done += 1
            progress(done, steps, note)
        losses.append(total / examples)
        note = f"epoch {epoch + 1} of {schedule.epochs}: loss {losses[-1]:.4g}"
        if score is None:
            continue
        reached = score()
        note += f", held-out score {reached:.4g}"
        if reached > best:
            best, since_best = reached, 0
            best_state = None if module is None else _copy_of(module)
        else:
            since_best += 1
            if since_best >= schedule.patience:
                break
    if module is not None and best_state is not None:
        module.load_state_dict(best_state)
    progress(steps, steps, note)
    return losses


def _copy_of(module: Any) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


@contextlib.contextmanager
def seeded(torch: Torch, seed: int) -> Iterator[None]:
    """Draw from one seed inside, and leave the caller's random numbers as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


@contextlib.contextmanager
def one_thread(torch: Torch) -> Iterator[None]:
    """Compute on one thread inside: a second one makes small steps slower, and their sums depend on the machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
