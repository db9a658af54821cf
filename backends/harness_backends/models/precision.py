"""One name for what the weights are stored in: bf16, fp16, fp8, fp4, int4, or a GGUF quantisation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = {
    "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "half": "fp16", "f16": "fp16", "fp16": "fp16",
    "float32": "fp32", "float": "fp32", "f32": "fp32", "fp32": "fp32",
    "fp8": "fp8", "f8_e4m3": "fp8", "f8_e5m2": "fp8", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8", "modelopt": "fp8",
    "mxfp4": "fp4", "nvfp4": "fp4", "modelopt_fp4": "fp4", "fp4": "fp4", "petit_nvfp4": "fp4",
}  # fmt: skip


def precision_of(config: Mapping[str, Any], stored: str, asked: str = "") -> str:
    """Return the precision of a model folder's weights as they are used.

    Args:
        config: the folder's config.json.
        stored: type of most stored numbers, as safetensors names it.
        asked: type or quantisation that the engine was told to use; it wins.
    """
    if asked:
        return _NAMES.get(asked.lower(), asked.lower())
    quantised: Mapping[str, Any] = config.get("quantization_config") or config.get("quantization") or {}
    method = str(quantised.get("quant_method") or quantised.get("mode") or "").lower()
    if method in _NAMES:
        return _NAMES[method]
    bits = quantised.get("bits")
    if bits:
        return f"int{bits}"
    if method:
        return method
    return _NAMES.get(stored.lower(), stored.lower())
