"""What model folders say of their models: parameters, active parameters, precision."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
from harness_backends.engines.errors import NotAModelError
from harness_backends.models.folder import facts_of_folder
from harness_backends.models.precision import precision_of
from harness_backends.models.registry import known_models


def model(folder: Path, config: dict[str, Any], tensors: dict[str, tuple[str, list[int]]]) -> Path:
    """Write a config and the header of a safetensors file."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    header = {name: {"dtype": d, "shape": s, "data_offsets": [0, 0]} for name, (d, s) in tensors.items()}
    encoded = json.dumps({"__metadata__": {}, **header}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(encoded)) + encoded)
    return folder


def test_a_dense_model_whose_heads_are_wider_than_its_embedding(tmp_path: Path) -> None:
    config = {
        "architectures": ["Qwen3ForCausalLM"], "hidden_size": 2560, "num_attention_heads": 32, "head_dim": 128,
        "num_hidden_layers": 36, "num_key_value_heads": 8, "max_position_embeddings": 40960, "torch_dtype": "bfloat16",
    }  # fmt: skip
    facts = facts_of_folder(model(tmp_path / "m", config, {"a.weight": ("BF16", [100, 20])}))
    assert facts["parameters"] == facts["active_parameters"] == "2000"
    assert (facts["attention_width"], facts["embedding_length"]) == ("4096", "2560")
    assert facts["precision"] == "bf16"


@pytest.mark.parametrize(("head", "looked_up"), [({"lm_head.weight": ("BF16", [50, 8])}, "400"), ({}, None)])
def test_an_embedding_beside_a_head_of_its_own_is_looked_up_only(
    tmp_path: Path, head: dict[str, tuple[str, list[int]]], looked_up: str | None
) -> None:
    tensors = {"model.embed_tokens.weight": ("BF16", [50, 8]), "a.weight": ("BF16", [8, 8]), **head}
    assert facts_of_folder(model(tmp_path / "m", {}, tensors)).get("looked_up_parameters") == looked_up


def test_a_mixture_counts_what_one_token_meets(tmp_path: Path) -> None:
    config = {"num_experts": 8, "num_experts_per_tok": 2, "hidden_size": 16}
    tensors = {
        "model.embed.weight": ("BF16", [10, 10]),
        "model.layers.0.mlp.experts.3.up_proj.weight": ("BF16", [8, 100]),
    }
    facts = facts_of_folder(model(tmp_path / "m", config, tensors))
    assert (facts["parameters"], facts["active_parameters"]) == ("900", "300")


@pytest.mark.parametrize(
    ("config", "tensors", "parameters", "precision"),
    [
        (
            {"quantization": {"bits": 4, "group_size": 64}},
            {"w.weight": ("U32", [10, 8]), "w.scales": ("BF16", [10, 1]), "w.biases": ("BF16", [10, 1])},
            "640",
            "int4",
        ),
        (
            {"quantization_config": {"quant_method": "mxfp4"}},
            {"mlp.experts.up_blocks": ("U8", [10, 16]), "mlp.experts.up_scales": ("U8", [10, 1])},
            "320",
            "fp4",
        ),
        (
            {"quantization_config": {"quant_method": "fp8"}},
            {"w.weight": ("F8_E4M3", [10, 10]), "w.weight_scale_inv": ("F32", [1, 1])},
            "100",
            "fp8",
        ),
        (
            {"quantization_config": {"quant_method": "awq", "bits": 4}},
            {"w.qweight": ("I32", [10, 10]), "w.qzeros": ("I32", [1, 10])},
            "800",
            "int4",
        ),
    ],
)
def test_packed_weights_are_counted_by_their_bits(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, Any], parameters: str, precision: str
) -> None:
    facts = facts_of_folder(model(tmp_path / "m", config, tensors))
    assert (facts["parameters"], facts["precision"]) == (parameters, precision)


def test_what_is_not_told_is_absent(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "x"}')
    assert facts_of_folder(tmp_path) == {"model_file": tmp_path.name, "architecture": "x"}
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(NotAModelError, match="cannot be read as a model's config"):
        facts_of_folder(tmp_path)


def test_a_folder_without_weights_is_counted_from_its_config(tmp_path: Path) -> None:
    config = next(m.config for m in known_models() if m.id == "qwen3-8b")
    (tmp_path / "config.json").write_text(json.dumps({**config, "torch_dtype": "bfloat16"}))
    facts = facts_of_folder(tmp_path)
    assert (facts["parameters"], facts["precision"], facts["attention_width"]) == (
        "8190735360",
        "bf16",
        "4096",
    )


def test_what_the_engine_was_told_wins_over_what_is_stored() -> None:
    assert precision_of({}, "BF16", "fp8") == "fp8"
    assert precision_of({}, "BF16", dtype="float16") == "fp16"
    assert precision_of({}, "F16") == "fp16"


def compressed(bits: int, kind: str) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": kind}
    return {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights}}}


@pytest.mark.parametrize(
    ("described", "precision"),
    [
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "mxfp4"}, "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, "nf4"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        (compressed(4, "int"), "int4"),
        (compressed(8, "float"), "fp8"),
        ({"group_size": 64, "bits": 4, "mode": "affine"}, "int4"),
        ({"group_size": 32, "bits": 4, "mode": "mxfp4"}, "fp4"),
    ],
)  # fmt: skip
def test_quantised_weights_keep_their_precision_whatever_is_computed_with_them(
    described: dict[str, Any], precision: str
) -> None:
    config = {"quantization_config": described}
    assert precision_of(config, "U32") == precision
    assert precision_of(config, "U32", dtype="bfloat16") == precision, "dtype is that of the activations"
    assert precision_of(config, "U32", "awq_marlin") == precision, (
        "an engine's name for a kernel has no width"
    )
