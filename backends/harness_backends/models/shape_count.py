"""Count a model's parameters from the shapes that its config.json states, without any weights.

It tells the parameters of a model that is not on this machine yet, and checks what cards and registries say. Only
families whose every tensor is known are counted: a guess would be no count.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_DENSE = frozenset({"llama", "mistral", "qwen2", "qwen3"})
_MIXTURES = frozenset({"mixtral", "qwen3_moe", "gpt_oss"})


@dataclass(frozen=True, slots=True)
class ShapeCount:
    """Parameters by the shapes of a config."""

    parameters: int
    in_experts: int
    """Those of them that belong to one expert of many."""
    looked_up: int
    """Those of the input embedding where the output head has a matrix of its own: looked up, never multiplied."""


def count_of_config(config: Mapping[str, Any]) -> ShapeCount | None:
    """Return the parameters of a model by its config, None for a family or a config that is not understood.

    Args:
        config: config.json of a decoder-only transformer. Shapes of the tensors: transformers, models/FAMILY/
            modeling_FAMILY.py.
    """
    family = config.get("model_type")
    try:
        if family in _DENSE | _MIXTURES:
            return _counted(str(family), config)
    except (KeyError, TypeError):
        pass
    return None


def _counted(family: str, config: Mapping[str, Any]) -> ShapeCount:
    hidden, layers, vocabulary = (
        int(config[name]) for name in ("hidden_size", "num_hidden_layers", "vocab_size")
    )
    heads = int(config["num_attention_heads"])
    kv_heads = int(config.get("num_key_value_heads") or heads)
    head_width = int(config.get("head_dim") or hidden // heads)
    queries, keys = heads * head_width, kv_heads * head_width
    attention = 2 * hidden * queries + 2 * hidden * keys
    if family == "qwen2":
        attention += queries + 2 * keys
    elif family == "gpt_oss":
        attention += queries + 2 * keys + hidden + heads  # biases, and one sink a head
    elif config.get("attention_bias"):
        attention += queries + 2 * keys + hidden
    if family in ("qwen3", "qwen3_moe"):
        attention += 2 * head_width  # norms of queries and keys
    router, one_layers_experts, feed_forward = 0, 0, 0
    if family in _MIXTURES:
        experts = int(config.get("num_experts") or config.get("num_local_experts") or 0)
        width = int(config.get("moe_intermediate_size") or config["intermediate_size"])
        one_expert = 3 * hidden * width
        router = hidden * experts
        if family == "gpt_oss":
            one_expert += 2 * width + hidden
            router += experts
        one_layers_experts = experts * one_expert
    else:
        feed_forward = 3 * hidden * int(config["intermediate_size"])
        if config.get("mlp_bias"):
            feed_forward += 2 * int(config["intermediate_size"]) + hidden
    table = vocabulary * hidden
    tied = bool(config.get("tie_word_embeddings", False))
    layer = attention + router + one_layers_experts + feed_forward + 2 * hidden
    return ShapeCount(
        parameters=table * (1 if tied else 2) + layers * layer + hidden,
        in_experts=layers * one_layers_experts,
        looked_up=0 if tied else table,
    )
