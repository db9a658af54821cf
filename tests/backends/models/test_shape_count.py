"""Parameters counted from shapes: exact where weights are here to be counted, and as the cards say elsewhere."""

from __future__ import annotations

import pytest
from harness_backends.engines.gguf import read_gguf
from harness_backends.engines.model_files import find_model_file
from harness_backends.models.folder import TensorCount, active_parameters
from harness_backends.models.registry import KnownModel, known_models
from harness_backends.models.shape_count import count_of_config

MODELS = {model.id: model for model in known_models()}
EXACT = {
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-235b-a22b": 235_093_634_560,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "mixtral-8x7b": 46_702_792_704,
    "llama-3.1-8b": 8_030_261_248,
    "smollm2-135m-q4_1": 134_515_008,
}
"""As the hub and llama.cpp count the tensors of each model's published weights."""


def test_the_count_of_smollm2_is_that_of_its_weights() -> None:
    count = count_of_config(MODELS["smollm2-135m-q4_1"].config)
    assert count is not None
    weights = read_gguf(find_model_file(MODELS["smollm2-135m-q4_1"].source))
    assert count.parameters == weights.parameters == 134_515_008


@pytest.mark.parametrize("model", [m for m in MODELS.values() if m.config], ids=lambda m: m.id)
def test_a_known_models_figures_follow_from_its_shapes(model: KnownModel) -> None:
    count = count_of_config(model.config)
    assert count is not None
    assert count.parameters == EXACT[model.id]
    assert model.params_b is not None
    assert count.parameters / 1e9 == pytest.approx(model.params_b, rel=0.011), "cards round"
    experts = model.config.get("num_experts") or model.config.get("num_local_experts")
    assert (experts is None) == (model.active_params_b is None)
    if model.active_params_b is not None:
        tensors = TensorCount(count.parameters, count.in_experts, "BF16")
        active = active_parameters(tensors, experts, model.config["num_experts_per_tok"])
        assert active is not None
        if model.id.startswith("gpt-oss"):
            active -= count.looked_up  # "unembedding parameters are counted as active, but not embeddings"
        assert active / 1e9 == pytest.approx(model.active_params_b, rel=0.01)


def test_a_mixture_by_hand() -> None:
    # 2 layers of 4 experts with 3 matrices 8 x 5, a router 8 x 4, attention 8 x 8 with keys and values of 8 x 4.
    config = {
        "model_type": "mixtral", "hidden_size": 8, "intermediate_size": 5, "num_hidden_layers": 2, "vocab_size": 10,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 4,
    }  # fmt: skip
    count = count_of_config(config)
    assert count is not None
    layer = (8 * 8 + 2 * 8 * 4 + 8 * 8) + 8 * 4 + 4 * 3 * 8 * 5 + 2 * 8
    assert count.parameters == 2 * layer + 2 * 10 * 8 + 8
    assert (count.in_experts, count.looked_up) == (2 * 4 * 3 * 8 * 5, 10 * 8)


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba"}, {"model_type": "qwen3", "hidden_size": 8}])
def test_what_is_not_understood_is_not_counted(config: dict[str, object]) -> None:
    assert count_of_config(config) is None
