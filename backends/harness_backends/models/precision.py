"""One name for what the weights are stored in: bf16, fp16, fp8, fp4, int4, or a GGUF quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "half": "fp16", "f16": "fp16", "fp16": "fp16",
    "float32": "fp32", "float": "fp32", "f32": "fp32", "fp32": "fp32",
    "fp8": "fp8", "f8_e4m3": "fp8", "f8_e5m2": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "modelopt": "fp8",
    "mxfp4": "fp4", "nvfp4": "fp4", "modelopt_fp4": "fp4", "fp4": "fp4", "petit_nvfp4": "fp4", "mxfp4_moe": "fp4",
}  # fmt: skip


def precision_name(stored: str) -> str:
    """Return the one name of a type that a file or an engine calls its own way."""
    return _NAMES.get(stored.lower(), stored.lower())


def precision_of(config: Mapping[str, Any], stored: str, quantization: str = "", dtype: str = "") -> str:
    """Return the precision of a model folder's weights as they are used.

    Args:
        config: the folder's config.json.
        stored: type of most stored numbers, as safetensors names it.
        quantization: quantisation that the engine was told to use, else empty.
        dtype: type that the engine was told to use, else empty. Of quantised weights it is the type of what is
            computed with them, and says nothing of how they are stored.
    """
    described: Mapping[str, Any] = config.get("quantization_config") or config.get("quantization") or {}
    method = str(described.get("quant_method") or described.get("mode") or "").lower()
    found = _described(described, method)
    if quantization and quantization.lower() != method:
        # Where the engine's name for it (awq_marlin) says no width, the file's own description does.
        return _NAMES.get(quantization.lower()) or found or quantization.lower()
    return found or precision_name(dtype or stored)


def _described(described: Mapping[str, Any], method: str) -> str:
    """Return what a config says of its quantisation, empty where it says nothing."""
    if method in _NAMES:
        # ModelOpt writes one method for all of its algorithms.
        algorithm = str(described.get("quant_algo") or "").lower()
        return _NAMES.get(algorithm, _NAMES[method])
    bits = described.get("bits") or described.get("w_bit")
    if bits:
        return f"int{bits}"
    if method == "bitsandbytes":
        return (
            "int8" if described.get("load_in_8bit") else str(described.get("bnb_4bit_quant_type") or "int4")
        )
    groups = described.get("config_groups")
    if isinstance(groups, Mapping):
        # compressed-tensors describes each group of layers; the groups of one model share their weights' width.
        weights: Mapping[str, Any] = next(iter(groups.values()), {}).get("weights") or {}
        if weights.get("num_bits"):
            return f"{'fp' if weights.get('type') == 'float' else 'int'}{weights['num_bits']}"
    return method
