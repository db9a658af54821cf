"""Routers that train a text model: they learn topics, keep what they learned in a folder, and refuse plainly."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from harness_analysis.errors import RoutingError
from harness_analysis.metrics.routing_quality import routing_quality
from harness_analysis.routing import Queries, Router
from harness_analysis.routing.catalogue import make_router
from harness_analysis.routing.choosing import best, smallest_viable, threshold_of_log
from harness_analysis.routing.finetuned.causal_model import CausalModel
from harness_analysis.routing.finetuned.decoder import Decoder
from harness_analysis.routing.finetuned.decoder_prompts import Ending, multiclass_endings
from harness_analysis.routing.finetuned.encoder_classifier import EncoderClassifier
from harness_analysis.routing.finetuned.training import Schedule, rate_factor
from harness_analysis.routing.finetuned.win_encoder import RouteLlmEncoder
from harness_analysis.routing.saved import fit_router, load_router
from harness_analysis.routing.win_rates import decided, mean_win_rates, surprise_of_wins
from harness_cli.main import harness

from tests.analysis.routing_worlds import TOPICS, topic_world
from tests.analysis.test_route_commands import long_form
from tests.analysis.tiny_text_models import tiny_decoder, tiny_encoder

pytest.importorskip("torch", reason="needs the extra embeddings")
pytest.importorskip("sentence_transformers", reason="needs the extra embeddings")

FAST = Schedule(epochs=8, batch=16, rate=5e-3, head_rate=5e-3, micro_batch=16)
ASKED = ["onion oven butter simmer", "court judge statute appeal", "prime matrix theorem integral"]
WORDS = [*TOPICS.values(), "Say whether a model answers the query correctly. Yes No small middle large"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Steps this small are slower on two threads than on one, and on a busy machine far slower."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"), WORDS * 10)


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_decoder(tmp_path_factory.mktemp("decoder"), WORDS * 10)


def asked(texts: list[str]) -> Queries:
    return Queries(np.zeros((len(texts), 1)), texts=tuple(texts))


def test_the_rate_rises_linearly_and_falls_as_a_cosine() -> None:
    factors = [rate_factor(step, 100) for step in range(100)]
    assert factors[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert rate_factor(40, 100) == pytest.approx(0.5 * (1 + math.cos(math.pi / 3)))
    assert 0 < factors[99] < 0.001
    assert rate_factor(0, 3) == 1.0  # too few steps to warm up


@pytest.mark.parametrize("name", ["encoder", "bert"])
def test_a_fine_tuned_encoder_learns_topics_and_comes_back_from_its_folder(
    name: str, encoder_folder: Path, tmp_path: Path
) -> None:
    training, test = topic_world(220).split(0.7, seed=1)
    made = EncoderClassifier if name == "encoder" else RouteLlmEncoder
    router = made(str(encoder_folder), FAST)
    assert isinstance(router, Router)
    fitted = fit_router(router, None, training)
    scores = fitted.scores(list(test.texts))
    # Of the classifier chances of being the smallest correct model, of RouteLLM's mean win rates.
    assert scores.sum(axis=1) == pytest.approx(np.full(len(test), 1.0 if name == "encoder" else 1.5))
    reached = routing_quality(best(scores), test.correct)
    assert reached.accuracy > test.correct.mean() + 0.15
    fitted.save(tmp_path / "router")
    assert not [p for p in (tmp_path / "router").rglob("*") if p.suffix in {".pkl", ".bin", ".pt", ".pickle"}]
    loaded = load_router(tmp_path / "router")
    assert loaded.scores(ASKED) == pytest.approx(fitted.scores(ASKED), abs=1e-6)
    assert np.isfinite(fitted.scores(["", " "])).all()
    fitted.save(tmp_path / "router")  # over itself
    assert sorted(p.name for p in tmp_path.iterdir()) == ["router"]


@pytest.mark.parametrize("made", [EncoderClassifier, RouteLlmEncoder])
def test_an_encoder_trained_twice_with_one_seed_is_the_same(made: Any, encoder_folder: Path) -> None:
    found = []
    for _ in range(2):
        router = made(str(encoder_folder), replace(FAST, epochs=1))
        router.fit(topic_world(60))
        found.append(router.scores(asked(ASKED)).tolist())
    assert found[0] == found[1]


def test_what_beats_what_by_hand() -> None:
    """Strengths log 3, log 1, and a query that the first won, one that neither did and one that both did."""
    import torch

    strength = torch.tensor([[math.log(3.0), 0.0]])
    won, lost = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    assert float(surprise_of_wins(torch, strength, won)) == pytest.approx(-math.log(3 / 4))
    assert float(surprise_of_wins(torch, strength, lost)) == pytest.approx(-math.log(1 / 4))
    assert mean_win_rates(strength.numpy()).tolist() == [pytest.approx([0.75, 0.25])]
    assert decided(np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])).tolist() == [0]


def test_where_nothing_is_decided_routellms_encoder_says_one_half(tmp_path: Path) -> None:
    world = topic_world(30)
    fitted = fit_router(RouteLlmEncoder(), None, replace(world, correct=np.ones_like(world.correct)))
    fitted.save(tmp_path / "router")
    assert load_router(tmp_path / "router").scores(["court"]).tolist() == [[0.5, 0.5, 0.5]]


def test_likelihoods_are_those_of_one_plain_pass(decoder_folder: Path) -> None:
    import torch

    model = CausalModel.load(decoder_folder, "test")
    endings = [Ending("\nModel: small\nOk?", " Yes"), Ending("\nQ:", " No, not at all\n")]
    queries = ["onion", "court judge statute appeal contract tort", ""]
    found = model.log_likelihoods("Instruction: ", queries, endings)
    for i, query in enumerate(queries):
        for j, ending in enumerate(endings):
            before = [*model.prefix("Instruction: ", query), *model.tokens(ending.question)]
            answer = model.tokens(ending.answer)
            with torch.no_grad():
                logits = model.model(torch.tensor([[*before, *answer]])).logits[0].double()
            by_hand = sum(
                float(torch.log_softmax(logits[len(before) + k - 1], -1)[token])
                for k, token in enumerate(answer)
            )
            assert found[i, j] == pytest.approx(by_hand, abs=1e-4)
            loss = model.loss("Instruction: ", [query], [ending])
            assert float(loss.detach()) * len(answer) == pytest.approx(-by_hand, abs=1e-4)


def test_no_name_is_the_beginning_of_another() -> None:
    short, long = multiclass_endings(["qwen3-4b", "qwen3-4b-q4"])
    assert not long.answer.startswith(short.answer)


@pytest.mark.parametrize("ask", ["multiclass", "binary"])
def test_decoders_learn_topics_and_come_back_from_their_folder(
    ask: str, decoder_folder: Path, tmp_path: Path
) -> None:
    training, test = topic_world(150).split(0.7, seed=1)
    schedule = Schedule(epochs=8 if ask == "multiclass" else 4, batch=16, rate=5e-3, micro_batch=16)
    router = Decoder(str(decoder_folder), "binary" if ask == "binary" else "multiclass", schedule)
    assert isinstance(router, Router)
    fitted = fit_router(router, None, training)
    assert router.losses[-1] < 0.7 * router.losses[0]
    scores = fitted.scores(list(test.texts))
    assert (scores >= 0).all()
    assert (scores <= 1).all()
    assert (router.log_likelihoods(asked(ASKED)) <= 0).all()
    if ask == "multiclass":
        assert (scores.sum(axis=1) <= 1 + 1e-6).all()
    assert routing_quality(smallest_viable(scores), test.correct).accuracy > test.correct.mean() + 0.1
    fitted.save(tmp_path / "router")
    loaded = load_router(tmp_path / "router")
    assert loaded.scores(ASKED) == pytest.approx(fitted.scores(ASKED), abs=1e-6)


def test_one_label_only_is_a_constant_and_needs_no_training(encoder_folder: Path, tmp_path: Path) -> None:
    world = topic_world(40)
    fitted = fit_router(
        EncoderClassifier(str(encoder_folder)), None, replace(world, correct=np.ones_like(world.correct))
    )
    fitted.save(tmp_path / "router")
    assert load_router(tmp_path / "router").scores(["court"]).tolist() == [[1, 0, 0]]


def test_what_cannot_be_trained_is_refused(tmp_path: Path, encoder_folder: Path) -> None:
    world = topic_world(30)
    with pytest.raises(RoutingError, match="NaN or infinite"):
        make_router("encoder").fit(replace(world, correct=world.correct * np.nan), np.ones((30, 1)))
    with pytest.raises(RoutingError, match="have no text"):
        make_router("encoder").fit(replace(world, texts=("",) * 30), np.ones((30, 1)))
    with pytest.raises(RoutingError, match="write decoder:FOLDER"):
        make_router("decoder")
    with pytest.raises(RoutingError, match="is no folder"):
        make_router("decoder:/nowhere").fit(world, np.ones((30, 1)))
    with pytest.raises(RoutingError, match=r"holds no model \(no config.json\)"):
        make_router(f"encoder:{tmp_path}").fit(world, np.ones((30, 1)))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RoutingError, match="cannot be loaded"):
        make_router(f"decoder-binary:{tmp_path}").fit(world, np.ones((30, 1)))
    with pytest.raises(RoutingError, match=r"at most 0, not 0\.5"):
        threshold_of_log(0.5)
    assert threshold_of_log(math.log(0.5)) == pytest.approx(0.5)
    with pytest.raises(RoutingError, match="between 0 and 1"):
        Schedule(rate=2.0)
    with pytest.raises(RoutingError, match="has not been fitted"):
        EncoderClassifier(str(encoder_folder)).scores(asked(["x"]))
    with pytest.raises(RoutingError, match="embeddings alone were given"):
        make_router("encoder").scores(Queries(np.ones((1, 2))))
    (tmp_path / "notes").mkdir()
    fitted = fit_router(EncoderClassifier(), None, replace(world, correct=np.ones_like(world.correct)))
    with pytest.raises(RoutingError, match="holds no router"):
        fitted.save(tmp_path / "notes")
    with pytest.raises(RoutingError, match="missing or damaged"):
        load_router(tmp_path / "notes")


def test_the_commands_take_encoders_and_decoders_by_folder(
    encoder_folder: Path, decoder_folder: Path, tmp_path: Path
) -> None:
    file, saved = str(tmp_path / "o.parquet"), str(tmp_path / "router")
    long_form(topic_world(60)).write_parquet(file)
    quick = ("--cost", "joules", "--epochs", "1", "--learning-rate", "0.005", "--batch", "16")
    done = CliRunner().invoke(
        harness, ["route", "fit", file, "--router", f"encoder:{encoder_folder}", *quick, "-o", saved]
    )
    assert done.exit_code == 0, done.output
    assert "epoch 1 of 1: loss " in done.output
    told = CliRunner().invoke(
        harness, ["route", "predict", saved, "onion", "--log-threshold", "-0.7", "--format", "json"]
    )
    assert json.loads(told.stdout)[0]["model"] in {"small", "middle", "large"}
    wrong = CliRunner().invoke(harness, ["route", "predict", saved, "onion", "--log-threshold", "0.7"])
    assert wrong.exit_code == 2
    text_models = [f"{name}:{encoder_folder}" for name in ("encoder", "bert")]
    text_models += [f"{name}:{decoder_folder}" for name in ("decoder", "decoder-binary")]
    names = ",".join(["heuristic", *text_models])
    measured = CliRunner().invoke(
        harness,
        ["route", "evaluate", file, *quick, "--routers", names, "--resamples", "100", "--format", "json"],
    )
    assert measured.exit_code == 0, measured.output
    # No bar of a library's own stands between the lines.
    assert "it/s" not in measured.stderr
    rows = {row["router"].partition(":")[0]: row for row in json.loads(measured.stdout)}
    assert {"encoder", "bert", "decoder", "decoder-binary"} <= set(rows)
    assert all(rows[n]["router_ms"] > 0 for n in ("encoder", "bert", "decoder", "decoder-binary"))
