"""A pretrained decoder, really fine-tuned as a router; run by `make test-decoders`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from harness_analysis.metrics.routing_quality import routing_quality, smallest_correct
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.routing.choosing import best, smallest_viable
from harness_analysis.routing.finetuned.causal_model import CausalModel
from harness_analysis.routing.finetuned.decoder import Ask, Decoder
from harness_analysis.routing.finetuned.decoder_prompts import (
    BINARY_INSTRUCTION,
    MULTICLASS_INSTRUCTION,
    NO,
    YES,
    binary_endings,
    multiclass_endings,
)
from harness_analysis.routing.finetuned.training import Schedule
from harness_analysis.routing.saved import fit_router, load_router

from tests.analysis.routing_worlds import topic_world

FOLDER = os.environ.get("HARNESS_DECODER_FOLDER", "")
# Of so few queries none is held out: two would choose the first epoch that happens to be right on them.
FEW_STEPS = Schedule(epochs=3, batch=4, rate=1e-4, micro_batch=4, validation_share=0.0)
# Two examples for each query, one for each model. Seen with these: 12 of 12 held-out queries to the right model, and 9
# of 12; always the commoner one is right for 6.
EPOCHS: dict[Ask, int] = {"multiclass": 3, "binary": 2}

pytestmark = [
    pytest.mark.skipif(not FOLDER, reason="needs a pretrained decoder and minutes: make test-decoders"),
    pytest.mark.timeout(900),
]


def easy_rule(n: int, seed: int) -> OutcomeMatrix:
    """Return queries on cooking, which the small model answers, and on law, which only the large one does."""
    drawn = topic_world(2 * n, seed)
    chosen = drawn.rows(np.array([topic in {"cooking", "law"} for topic in drawn.domains])).rows(np.arange(n))
    cooking = np.array([topic == "cooking" for topic in chosen.domains])
    return replace(
        chosen,
        models=("small", "large"),
        params_b=chosen.params_b[[0, 2]],
        correct=np.column_stack([cooking, np.ones(n)]).astype(np.float64),
        costs={unit: cost[:, [0, 2]] for unit, cost in chosen.costs.items()},
    )


def cross_entropy(ask: Ask, folder: Path, asked: OutcomeMatrix) -> float:
    """Return the mean -log P(right answer), over queries or over queries and models, of the weights in a folder."""
    decoder, texts = CausalModel.load(folder, "test"), list(asked.texts)
    if ask == "multiclass":
        instruction = MULTICLASS_INSTRUCTION.format(models=", ".join(asked.models))
        named = decoder.log_likelihoods(instruction, texts, multiclass_endings(asked.models))
        return float(-named[np.arange(len(asked)), smallest_correct(asked.correct)].mean())
    yes, no = (
        decoder.log_likelihoods(BINARY_INSTRUCTION, texts, binary_endings(asked.models, word))
        for word in (YES, NO)
    )
    return float(-np.where(asked.correct >= 0.5, yes, no).mean())


def say(done: int, total: int, note: str) -> None:
    print(f"step {done} of {total} {note}", flush=True)  # noqa: T201


@pytest.mark.parametrize("ask", ["multiclass", "binary"])
def test_a_pretrained_decoder_learns_a_rule_in_a_few_steps(ask: Ask, tmp_path: Path) -> None:
    training, test = easy_rule(16, seed=0), easy_rule(12, seed=1)
    before = cross_entropy(ask, Path(FOLDER), test)
    router = Decoder(FOLDER, ask, replace(FEW_STEPS, epochs=EPOCHS[ask]), progress=say)
    fit_router(router, None, training).save(tmp_path / "router")
    after = cross_entropy(ask, tmp_path / "router" / "decoder", test)
    scores = load_router(tmp_path / "router").scores(list(test.texts))
    choice = best(scores) if ask == "multiclass" else smallest_viable(scores)
    reached = routing_quality(choice, test.correct)
    right = float(np.mean(choice == smallest_correct(test.correct)))
    small = float(np.mean(smallest_correct(test.correct) == 0))
    commoner = max(small, 1 - small)
    print(  # noqa: T201
        f"{ask}: held-out loss {before:.3f} -> {after:.3f}; right model {right:.3f} (always the commoner one"
        f" {commoner:.3f}); accuracy {reached.accuracy:.3f}, label F1 {reached.label_f1:.3f};"
        f" training loss {router.losses[0]:.3f} -> {router.losses[-1]:.3f}"
    )
    assert after < 0.5 * before
    assert right > commoner + 0.15
    # Accuracy would prove nothing: the large model alone has 1.
    assert reached.label_f1 > 0.6
