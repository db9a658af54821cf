"""Each step removes what it says, counts it, and can be left out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from harness_analysis.datasets.cleaning import Steps, clean
from harness_analysis.datasets.language import foreign_language
from harness_analysis.datasets.near_duplicates import near_duplicate_groups
from harness_analysis.embedding.cached import CachedEmbedder
from harness_analysis.embedding.sentence import SentenceEmbedder
from harness_analysis.errors import DatasetError
from harness_store.database import open_store
from harness_store.dataset_tables import as_batch
from harness_store.datasets import QueryRow
from harness_store.prompts import content_hash, prompt_text
from numpy.typing import NDArray

NONE = Steps(reference=False, max_characters=None, english=False, exact=False, near=None)


def table_of(rows: Sequence[dict[str, str | None]]) -> pa.Table:
    made = []
    for at, row in enumerate(rows):
        text, turns = str(row["text"]), row.get("messages_json")
        fields = {
            "reference": row.get("reference"),
            "domain": row.get("domain"),
            "origin": row.get("origin", "o"),
        }
        digest = content_hash(prompt_text(text, turns))
        made.append(QueryRow(f"q{at}", at, text, turns, content_hash=digest, **fields))  # type: ignore[arg-type]
    return pa.Table.from_batches([as_batch(made)])


def letters(texts: Sequence[str], _hashes: Sequence[str]) -> NDArray[np.float32]:
    """Embed a text as the vector of its first letter."""
    return np.eye(128, dtype=np.float32)[[ord(text[0]) for text in texts]]


def test_a_step_removes_its_rows_and_no_others() -> None:
    talk = json.dumps(
        [{"role": "user", "content": "Hello " * 9000}, {"role": "user", "content": "Same question?"}]
    )
    table = table_of(
        [
            {"text": "Same question?", "reference": "1"},
            {"text": "SAME\u00a0 question?", "reference": "2"},
            {"text": "Same question?", "messages_json": talk, "reference": "1"},
            {"text": "Wie heißt die Hauptstadt von Frankreich?", "reference": "Paris"},
            {"text": "No answer is known to this", "reference": " "},
            {"text": "x" * 32_001, "reference": "1"},
        ]
    )
    for steps, kept in (
        (Steps(**{**_plain(), "reference": True}), [0, 1, 2, 3, 5]),
        (Steps(**{**_plain(), "max_characters": 32_000}), [0, 1, 3, 4]),
        (Steps(**{**_plain(), "english": True}), [0, 1, 2, 4, 5]),
        (Steps(**{**_plain(), "exact": True}), [0, 2, 3, 4, 5]),
        (NONE, [0, 1, 2, 3, 4, 5]),
    ):
        assert clean(table, steps).kept.tolist() == kept
    done = clean(table, Steps(near=None))
    assert done.kept.tolist() == [0]
    removed = {step["step"]: step["removed"] for step in done.report["steps"]}
    assert removed == {"reference": 1, "length": 2, "english": 1, "exact": 1}
    exact = done.report["steps"][-1]
    assert (exact["groups"], exact["groups_with_conflicting_references"]) == (1, 1)
    assert [row["reference"] for row in exact["conflicts"][0]] == ["1", "2"]
    assert done.report["rows_after"] == 1


def test_near_duplicates_need_vectors_and_list_conflicts() -> None:
    table = table_of(
        [{"text": t, "reference": r} for t, r in (("a1", "x"), ("b", "y"), ("a2", "X."), ("a3", "z"))]
    )
    with pytest.raises(DatasetError, match="--skip near"):
        clean(table, Steps())
    done = clean(table, Steps(**{**_plain(), "near": 0.999}), letters)
    assert done.kept.tolist() == [0, 1]
    (step,) = done.report["steps"]
    assert (step["groups"], step["largest_group"], step["groups_with_conflicting_references"]) == (1, 3, 1)


def test_a_judge_is_asked_about_what_is_left_and_its_reasons_are_counted() -> None:
    table = table_of([{"text": f"{'asdf' if i % 3 == 0 else 'fine'} {i}"} for i in range(600)])
    asked: list[str] = []

    def judge(prompts: Sequence[str], /) -> list[str | None]:
        asked.extend(prompts)
        return ["noise" if prompt.startswith("asdf") else None for prompt in prompts]

    done = clean(table, Steps(**{**_plain(), "judge": judge}))
    assert (len(asked), len(done.kept), done.report["steps"][0]["reasons"]) == (600, 400, {"noise": 200})
    with pytest.raises(DatasetError, match="0 verdicts on 256"):
        clean(table, Steps(**{**_plain(), "judge": lambda _prompts: []}))


def test_a_step_that_leaves_nothing_names_itself() -> None:
    with pytest.raises(DatasetError, match=r"step `reference` leaves no row of 1; .* --skip reference"):
        clean(table_of([{"text": "x"}]), Steps(near=None))


def test_other_languages_are_told_apart_and_short_texts_are_kept() -> None:
    assert foreign_language("¿Cuál es la capital de Francia y por qué?") == "es"
    assert foreign_language("日本の首都はどこですか") == "ja"
    for text in ("What is the capital of France?", "hi", "2 + 2 = ?", "def f(x): return x + 1"):
        assert foreign_language(text) is None


@pytest.mark.parametrize("delta", [0.999, 0.9])
def test_near_groups_are_the_components_of_all_near_pairs(delta: float) -> None:
    chance = np.random.default_rng(5)
    vectors = chance.standard_normal((3000, 24)).astype(np.float32)
    for start in range(0, 900, 3):  # chains: the ends of some are not near each other
        step = chance.standard_normal((2, 24)).astype(np.float32) * chance.choice([0.01, 0.03, 0.2])
        vectors[start + 1], vectors[start + 2] = vectors[start] + step[0], vectors[start] + step[0] + step[1]
    vectors[2000:2100] = vectors[1999]
    vectors = vectors[chance.permutation(3000)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[17] = 0
    cosine = vectors.astype(np.float64) @ vectors.astype(np.float64).T
    expected = np.arange(3000)
    near = [np.flatnonzero(row >= delta) for row in cosine]
    changed = True
    while changed:
        least = np.array([min(expected[n].min(), expected[i]) if len(n) else i for i, n in enumerate(near)])
        changed, expected = bool((least != expected).any()), least
    found = near_duplicate_groups(vectors, delta)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) < 2900


def test_vectors_that_are_no_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="unit length"):
        near_duplicate_groups(np.ones((3, 4), dtype=np.float32))
    with pytest.raises(ValueError, match="must lie above 0"):
        near_duplicate_groups(np.eye(3, dtype=np.float32), 1.5)
    assert near_duplicate_groups(np.empty((0, 0), dtype=np.float32)).tolist() == []


class _Counting:
    name, identity = "counting", "counting==1"

    def __init__(self) -> None:
        self.seen: list[str] = []

    def fit(self, texts: Sequence[str]) -> None:
        return None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float64]:
        self.seen.extend(texts)
        return letters(texts, texts).astype(np.float64)


def test_only_texts_that_are_missing_are_embedded(tmp_path: Path) -> None:
    texts = [f"{'abc'[i % 3]}{i}" for i in range(1300)]
    hashes = [content_hash(text) for text in texts]
    counting = _Counting()
    store = open_store(f"sqlite:///{tmp_path / 'e.db'}")
    first = CachedEmbedder(counting, store).vectors(texts[:700], hashes[:700])
    again = CachedEmbedder(counting, store)
    vectors = again.vectors([*texts, texts[0]], [*hashes, hashes[0]])
    store.close()
    assert (counting.seen, again.computed) == (texts, 600)
    np.testing.assert_array_equal(vectors[:700], first)
    np.testing.assert_array_equal(vectors[-1], vectors[0])
    np.testing.assert_array_equal(CachedEmbedder(_Counting()).vectors(texts, hashes), vectors[:-1])


def test_long_texts_that_differ_at_their_end_are_not_near() -> None:
    pytest.importorskip("sentence_transformers")
    passage = "The law of the sea concerns ships and ports. " * 28
    texts = [f"{passage}Is it about ships?", f"{passage}Who wrote the treaty of Rome?"]
    whole = SentenceEmbedder(whole=True)
    first, second = whole.embed(texts)
    assert first @ second < 0.999
    assert "windows" in whole.identity


def _plain() -> dict[str, object]:
    return {"reference": False, "max_characters": None, "english": False, "exact": False, "near": None}
