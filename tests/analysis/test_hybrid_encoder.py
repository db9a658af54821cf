"""Hybrid LLM's fine-tuned router and the likelihood score, on small random models."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from harness_analysis.errors import RoutingError
from harness_analysis.routing.finetuned.hybrid_encoder import HybridEncoder
from harness_analysis.routing.finetuned.likelihood_score import LikelihoodScorer
from harness_analysis.routing.finetuned.training import Schedule
from harness_cli.main import harness

from tests.analysis.routing_worlds import TOPICS, topic_world
from tests.analysis.test_route_commands import long_form
from tests.analysis.tiny_text_models import tiny_decoder, tiny_encoder, tiny_sequence_to_sequence

torch = pytest.importorskip("torch", reason="needs the extra embeddings")
pytest.importorskip("sentence_transformers", reason="needs the extra embeddings")

WORDS = [*TOPICS.values()] * 10
FAST = Schedule(epochs=8, batch=16, rate=5e-3, head_rate=5e-3)


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"), WORDS)


def test_a_fine_tuned_router_trusts_the_small_model_where_it_is_good(encoder_folder: Path) -> None:
    world = topic_world(200)
    small, large = world.correct[:, :1], world.correct[:, 2:]
    router = HybridEncoder(str(encoder_folder), "probabilistic", FAST)
    router.fit(world.texts, small, large)
    cooking, maths = router.trust(["onion oven butter", "integral prime matrix"])
    assert cooking > 0.7
    assert cooking > maths + 0.3
    again = HybridEncoder(str(encoder_folder), "probabilistic", FAST)
    again.fit(world.texts, small, large)
    assert again.trust(["onion"]).tolist() == router.trust(["onion"]).tolist()


def test_soft_labels_are_learned_as_chances(encoder_folder: Path) -> None:
    """Half of the answers reach the large model's, whatever the query: the trust is one half."""
    texts = topic_world(60).texts
    small = np.tile([0.2, 0.8], (60, 1))
    router = HybridEncoder(str(encoder_folder), "probabilistic", FAST)
    router.fit(texts, small, np.full((60, 1), 0.5))
    assert router.trust(texts).mean() == pytest.approx(0.5, abs=0.05)


def test_what_a_fine_tuned_router_cannot_learn_is_refused(encoder_folder: Path, tmp_path: Path) -> None:
    ones = np.ones((3, 1))
    router = HybridEncoder(str(encoder_folder))
    with pytest.raises(RoutingError, match="has not been fitted"):
        router.trust(["x"])
    with pytest.raises(RoutingError, match="NaN or infinite"):
        router.fit(["a", "b", "c"], ones * np.nan, ones)
    with pytest.raises(RoutingError, match="for the same queries"):
        router.fit(["a", "b"], ones, ones)
    with pytest.raises(RoutingError, match="have no text"):
        router.fit(["", " ", ""], ones, ones)
    router.fit(["a", "b", "c"], ones, ones)
    assert router.trust(["x", "y"]).tolist() == [1.0, 1.0]  # one label: nothing to train
    with pytest.raises(RoutingError, match="is no folder"):
        HybridEncoder(str(tmp_path / "none")).fit(["a", "b"], np.array([[1.0], [0.0]]), ones[:2])


def test_the_command_takes_an_encoder(encoder_folder: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "o.parquet")
    long_form(topic_world(120)).write_parquet(file)
    words = ["route", "hybrid", file, "--cost", "joules", "--format", "json"]
    quick = ["--epochs", "2", "--learning-rate", "0.005", "--batch", "16"]
    done = CliRunner().invoke(harness, [*words, "--encoder", str(encoder_folder), *quick])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["router"] for row in rows] == ["deterministic", "probabilistic", "transformed"]
    assert {row["learner"] for row in rows} == {"encoder"}
    wrong = CliRunner().invoke(harness, [*words, "--encoder", str(tmp_path)])
    assert wrong.exit_code == 2
    assert "holds no model" in wrong.output


GIVEN = ["onion oven butter", "court", "prime matrix theorem integral sum"]
ANSWERS = ["butter", "judge statute appeal contract tort", "vector"]


def by_hand(logits: Any, targets: list[int]) -> float:
    chances = torch.log_softmax(logits.double(), dim=-1)
    return float(np.mean([float(chances[t, token]) for t, token in enumerate(targets)]))


def test_the_likelihood_score_of_a_sequence_to_sequence_model_by_hand(tmp_path: Path) -> None:
    scorer = LikelihoodScorer.load(tiny_sequence_to_sequence(tmp_path, WORDS))
    found = scorer.scores([*GIVEN, "x"], [*ANSWERS, ""])
    assert math.isnan(found[3])  # an empty answer has no tokens
    start = scorer.model.config.decoder_start_token_id
    for i, (given, answer) in enumerate(zip(GIVEN, ANSWERS, strict=True)):
        source, target = (scorer.tokeniser(text)["input_ids"] for text in (given, answer))
        with torch.no_grad():
            logits = scorer.model(
                input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([[start, *target[:-1]]])
            ).logits[0]
        assert found[i] == pytest.approx(by_hand(logits, target), abs=1e-4)
        assert found[i] < 0


def test_the_likelihood_score_of_a_causal_model_by_hand(tmp_path: Path) -> None:
    scorer = LikelihoodScorer.load(tiny_decoder(tmp_path / "d", WORDS))
    found = scorer.scores(GIVEN, ANSWERS)
    for i, (given, answer) in enumerate(zip(GIVEN, ANSWERS, strict=True)):
        before = [1, *scorer.tokeniser(given)["input_ids"], *scorer.tokeniser("\n")["input_ids"]]
        target = scorer.tokeniser(answer)["input_ids"]
        with torch.no_grad():
            logits = scorer.model(torch.tensor([[*before, *target]])).logits[0]
        assert found[i] == pytest.approx(by_hand(logits[len(before) - 1 :], target), abs=1e-4)
    with pytest.raises(RoutingError, match="2 texts were given for 1 answers"):
        scorer.scores(["a", "b"], ["c"])
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(RoutingError, match=r"the likelihood score: .* is no folder"):
        LikelihoodScorer.load(tmp_path / "d")


def test_answers_of_a_file_get_likelihoods_and_become_outcomes(tmp_path: Path) -> None:
    model, file, scored = tiny_decoder(tmp_path / "d", WORDS), tmp_path / "a.jsonl", tmp_path / "s.parquet"
    rows = [
        {
            "query_id": str(q),
            "model_id": m,
            "params_b": size,
            "reference": GIVEN[q],
            "answer": ANSWERS[q] * size,
        }
        for q in range(3)
        for m, size in (("small", 1), ("large", 2))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["route", "likelihood", str(file), "--scorer", str(model), "-o", str(scored)]
    done = CliRunner().invoke(harness, words)
    assert done.exit_code == 0, done.output
    found = pl.read_parquet(scored)
    expected = LikelihoodScorer.load(model).scores(
        [r["reference"] for r in rows], [r["answer"] for r in rows]
    )
    assert found["log_likelihood"].to_list() == pytest.approx(expected.tolist(), abs=1e-5)
    assert found["correct"].to_list() == pytest.approx(np.exp(expected).tolist(), rel=1e-4)
    measured = CliRunner().invoke(harness, ["analyze", "solvability", str(scored), "--format", "json"])
    assert measured.exit_code == 0, measured.output
    for change, message in (
        (["--given", "query"], "there is no column `query`"),
        (["--answer", "params_b"], "column `params_b` holds no text"),
        (["--scorer", str(tmp_path)], "holds no model"),
    ):
        refused = CliRunner().invoke(harness, [*words, *change])
        assert refused.exit_code == 2
        assert message in refused.output
    again = CliRunner().invoke(harness, [*words[:2], str(scored), *words[3:]])
    assert again.exit_code == 2
    assert "`log_likelihood` already" in again.output
