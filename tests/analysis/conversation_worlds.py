"""Small worlds of conversations: in one the history tells what a turn is about, in the other it tells nothing."""

from __future__ import annotations

import numpy as np
import polars as pl
from harness_analysis.outcomes.matrix import OutcomeMatrix
from harness_analysis.outcomes.table import Outcomes

from tests.analysis.routing_worlds import TOPICS

FOLLOW_UPS = "please go on with more of that and make it shorter again then explain"
MODELS = (("small", 4.0), ("large", 200.0))


def conversation_rows(n: int, *, history_matters: bool, turns: int = 3, seed: int = 0) -> pl.DataFrame:
    """Return conversations of `turns` turns: cooking is for the small model, law for the large one alone.

    Where the history matters, the first turn names the topic and all others are words without one. Where it does not,
    each turn names its own topic, drawn anew. A token of a prompt costs 0.1 J a billion parameters, one of an answer 1.
    """
    random = np.random.default_rng(seed)
    rows = []
    for at in range(n):
        topic = ""
        for turn in range(1, turns + 1):
            if turn == 1 or not history_matters:
                topic = str(random.choice(["cooking", "law"]))
            words = (FOLLOW_UPS if history_matters and turn > 1 else TOPICS[topic]).split()
            text = " ".join(random.choice(words, size=5))
            for model, params_b in MODELS:
                prompt, output = int(random.integers(5, 30)), int(random.integers(20, 90))
                rows.append(
                    {
                        "query_id": f"c{at:04d}-{turn}",
                        "query": text,
                        "domain": topic,
                        "conversation_id": f"c{at:04d}",
                        "turn": turn,
                        "model_id": model,
                        "params_b": params_b,
                        "correct": float(random.random() < (0.95 if topic == "cooking" or model == "large" else 0.05)),
                        "prompt_tokens": prompt,
                        "output_tokens": output,
                        "joules": params_b * (0.1 * prompt + output),
                        "energy_kind": "measured",
                    }
                )  # fmt: skip
    return pl.DataFrame(rows)


def conversation_world(
    n: int, *, history_matters: bool, unit: str = "joules", seed: int = 0
) -> OutcomeMatrix:
    """Return the same as a matrix with turns."""
    rows = conversation_rows(n, history_matters=history_matters, seed=seed)
    return Outcomes.from_arrow(rows.to_arrow()).matrix(unit, turns=True)
