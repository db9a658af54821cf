"""What a Hugging Face model folder says about its model: config.json and the headers of its safetensors files.

Nothing is loaded: a safetensors file begins with the length of a JSON header that names every tensor with its type
and shape (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness_backends.engines.errors import ModelNotFoundError, NotAModelError
from harness_backends.home_folder import expanded
from harness_backends.models.precision import precision_of
from harness_backends.models.shape_count import count_of_config

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_MOST_HEADER_BYTES = 100_000_000
_BITS = {
    "F64": 64,
    "F32": 32,
    "F16": 16,
    "BF16": 16,
    "I64": 64,
    "I32": 32,
    "U32": 32,
    "I16": 16,
    "I8": 8,
    "U8": 8,
}
_SCALES = re.compile(
    r"(_scales?|\.scales|\.biases|_scale_inv|_zeros|\.qzeros|\.g_idx|_absmax|_quant_map|\.weight_shape)$"
)
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte)\.weight$")
_HEAD = re.compile(r"(^|\.)lm_head\.weight$")
_PACKED = {"I32", "U32", "U8", "I8"}


@dataclass(frozen=True, slots=True)
class TensorCount:
    """Parameters of a model's files."""

    parameters: int
    in_experts: int
    """Those of them that belong to one expert of many."""
    dtype: str
    """Type of most of the stored numbers, as safetensors names it."""
    looked_up: int = 0
    """Those of the input embedding where the output head has a matrix of its own: looked up, never multiplied."""


def local_model_source(source: str) -> str:
    """Return a model source as an engine takes it: an existing folder's absolute path, or a hub name as it is.

    Raises:
        ModelNotFoundError: it is neither.
        NotAModelError: the folder holds no config.json, or it is a GGUF file.
    """
    path = expanded(source)
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise NotAModelError(
                f"The folder {source} holds no config.json; name a Hugging Face model folder."
            )
        return str(path.resolve())
    if source.endswith(".gguf"):
        raise NotAModelError(
            f"{source} is a GGUF file, and this engine reads model folders; make one with: "
            "harness models convert FILE.gguf FOLDER"
        )
    if _HUB_NAME.fullmatch(source) and not path.exists():
        return source
    raise ModelNotFoundError(
        f"There is no model folder {source} on this machine; give a folder, or a hub name like Qwen/Qwen3-4B."
    )


def folder_of(source: str) -> Path | None:
    """Return the local folder of a model source: the folder itself, or the hub's cache of that name."""
    path = Path(source)
    if path.is_dir():
        return path
    home = expanded(os.environ.get("HF_HOME", "~/.cache/huggingface"))
    cache = expanded(os.environ.get("HF_HUB_CACHE", home / "hub"))
    repository = cache / f"models--{source.replace('/', '--')}"
    try:
        revision = (repository / "refs" / "main").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    folder = repository / "snapshots" / revision
    return folder if (folder / "config.json").is_file() else None


def facts_of_source(source: str, quantization: str = "", dtype: str = "") -> dict[str, str]:
    """Return the facts of a model source, empty while nothing of it is on this machine.

    Args:
        source: a folder or a hub name.
        quantization: quantisation that the engine was told to use, else empty.
        dtype: type that the engine was told to use, else empty.

    Raises:
        NotAModelError: config.json cannot be read.
    """
    folder = folder_of(source)
    return {} if folder is None else facts_of_folder(folder, quantization, dtype)


def facts_of_folder(folder: Path, quantization: str = "", dtype: str = "") -> dict[str, str]:
    """Return parameters, layers, heads, precision and the like of a model folder, as text; arguments as above.

    Parameters are counted in the headers of the weights; without weights in safetensors, from the config's shapes.

    Raises:
        NotAModelError: config.json cannot be read.
    """
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotAModelError(
            f"{folder / 'config.json'} cannot be read as a model's config: {error}"
        ) from None
    text: dict[str, Any] = {**config, **(config.get("text_config") or {})}
    count = count_parameters(folder, text)
    own_dtype = text.get("dtype") or text.get("torch_dtype") or config.get("torch_dtype")
    stored = count.dtype if count else str(own_dtype or "")
    if count is None and (by_shapes := count_of_config(text)) is not None:
        count = TensorCount(by_shapes.parameters, by_shapes.in_experts, stored, by_shapes.looked_up)
    experts = next(
        (text[n] for n in ("num_experts", "num_local_experts", "n_routed_experts") if text.get(n)), None
    )
    used = next((text[n] for n in ("num_experts_per_tok", "experts_per_token") if text.get(n)), None)
    heads = text.get("num_attention_heads")
    head_width = text.get("head_dim") or (
        text["hidden_size"] // heads if heads and text.get("hidden_size") else None
    )
    found: dict[str, object | None] = {
        "model_file": folder.name,
        "model_bytes": sum(f.stat().st_size for f in folder.glob("*.safetensors")) or None,
        "architecture": (config.get("architectures") or [config.get("model_type")])[0],
        "parameters": count.parameters if count else None,
        "active_parameters": active_parameters(count, experts, used) if count else None,
        "looked_up_parameters": (count.looked_up or None) if count else None,
        "dtype": own_dtype,
        "precision": precision_of(config, stored, quantization, dtype),
        "layers": text.get("num_hidden_layers"),
        "embedding_length": text.get("hidden_size"),
        "attention_width": heads * head_width if heads and head_width else None,
        "feed_forward_length": text.get("intermediate_size"),
        "attention_heads": heads,
        "attention_kv_heads": text.get("num_key_value_heads"),
        "experts": experts,
        "experts_used": used,
        "context_trained": text.get("max_position_embeddings"),
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def active_parameters(count: TensorCount, experts: int | None, used: int | None) -> int | None:
    """Return the parameters that one token meets: all but the share of experts that are not chosen."""
    if not experts:
        return count.parameters
    if not used or not count.in_experts:
        return None
    return count.parameters - count.in_experts + count.in_experts * used // experts


def count_parameters(folder: Path, config: dict[str, Any]) -> TensorCount | None:
    """Count the parameters of a folder's safetensors files from their headers; None without such files.

    Packed weights are counted by the bits that the config's quantisation gives each; scales and zero points are
    no parameters.
    """
    parameters = experts = embedding = 0
    has_head = False
    kinds: Counter[str] = Counter()
    for file in sorted(folder.glob("*.safetensors")):
        for name, tensor in _header(file).items():
            if name == "__metadata__" or _SCALES.search(name):
                continue
            count = math.prod(tensor["shape"]) * _per_number(name, tensor["dtype"], config)
            parameters += count
            kinds[tensor["dtype"]] += count
            if re.search(r"\.experts?\.", name) or ".switch_mlp." in name:
                experts += count
            embedding += count if _EMBEDDING.search(name) else 0
            has_head = has_head or _HEAD.search(name) is not None
    if not parameters:
        return None
    looked_up = embedding if has_head else 0
    return TensorCount(parameters, experts, kinds.most_common(1)[0][0], looked_up)


def _per_number(name: str, dtype: str, config: dict[str, Any]) -> int:
    if dtype not in _PACKED:
        return 1
    quantisation: dict[str, Any] = config.get("quantization") or config.get("quantization_config") or {}
    method = quantisation.get("quant_method", "")
    bits = quantisation.get("bits") or (4 if method in ("mxfp4", "awq", "gptq", "bitsandbytes") else 0)
    if name.endswith("_blocks"):
        bits = 4
    return _BITS[dtype] // int(bits) if bits else 1


def _header(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as data:
            (length,) = struct.unpack("<Q", data.read(8))
            if length > _MOST_HEADER_BYTES:
                return {}
            return json.loads(data.read(length))
    except (OSError, ValueError, struct.error):
        return {}
