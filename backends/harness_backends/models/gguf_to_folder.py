"""Turn a GGUF file into a Hugging Face model folder, so that vLLM and MLX run the very same weights.

Weights become bf16, whatever they were quantised to: the numbers are those of the GGUF file, the precision is not.
Models of the Llama family with a byte-level BPE tokeniser are understood (SmolLM2, Llama 3 and the like).
"""

from __future__ import annotations

import importlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness_backends.engines.errors import EngineUnavailableError, NotAModelError
from harness_backends.engines.gguf import read_gguf

_TENSORS = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_LAYER_TENSORS = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
_SPLITS = {
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "gpt-2": [],
    "llama-bpe": [
        {
            "type": "Split",
            "pattern": {
                "Regex": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+"
            },
            "behavior": "Isolated",
            "invert": False,
        }
    ],
}
"""How each kind of tokeniser cuts text before byte-level BPE, by GGUF's name for it (llama.cpp, llama-vocab.cpp)."""
_CONTROL, _USER_DEFINED = 3, 4


def convert(source: Path, folder: Path) -> int:
    """Write config.json, model.safetensors and the tokeniser's files; return the bytes of the weights.

    Args:
        source: a GGUF file.
        folder: where the model goes; made if it is not there, refused if it holds a model.

    Raises:
        NotAModelError: the file is no GGUF, or of a family that is not understood.
        EngineUnavailableError: the package gguf is not installed.
        FileExistsError: the folder holds a model.
    """
    model = read_gguf(source)
    architecture = str(model.metadata.get("general.architecture", ""))
    split = str(model.metadata.get("tokenizer.ggml.pre", ""))
    if (
        architecture != "llama"
        or model.metadata.get("tokenizer.ggml.model") != "gpt2"
        or split not in _SPLITS
    ):
        raise NotAModelError(
            f"{source} is a model of the kind {architecture}/{split or 'no tokeniser name'}; only llama models with "
            f"a tokeniser of {', '.join(_SPLITS)} can be converted. Get its model folder from the Hugging Face hub."
        )
    if (folder / "config.json").exists():
        raise FileExistsError(f"{folder} holds a model; name another folder or remove it.")
    try:
        gguf: Any = importlib.import_module("gguf")
    except ImportError:
        raise EngineUnavailableError(
            "Converting needs the package gguf; install it with: pip install gguf"
        ) from None
    reader = gguf.GGUFReader(str(source))

    def field(name: str, default: Any = None) -> Any:
        found = reader.fields.get(name)
        return default if found is None else found.contents()

    folder.mkdir(parents=True, exist_ok=True)
    size = _write_weights(folder / "model.safetensors", reader, gguf.quants.dequantize, field)
    _write_json(folder / "tokenizer.json", _tokeniser(field, split))
    _write_json(folder / "tokenizer_config.json", _tokeniser_config(field))
    _write_json(folder / "generation_config.json", {"eos_token_id": field("tokenizer.ggml.eos_token_id")})
    # Last, because a folder with a config.json counts as a whole model.
    _write_json(
        folder / "config.json", _config(field, tied="output.weight" not in {t.name for t in reader.tensors})
    )
    return size


def bf16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Return the upper halves of float32 numbers, rounded to the nearest even bf16."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def unpermute(weight: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Undo the reordering of rotary halves that GGUF's Llama files carry (convert_hf_to_gguf.py, `permute`)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_weights(
    path: Path, reader: Any, dequantise: Callable[..., NDArray[np.float32]], field: Callable[..., Any]
) -> int:
    heads = field("llama.attention.head_count")
    kv_heads = field("llama.attention.head_count_kv", heads)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, tensor in _named(reader):
        shape = [int(n) for n in reversed(tensor.shape)]
        size = int(np.prod(shape)) * 2
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as out:
        out.write(struct.pack("<Q", len(encoded)) + encoded)
        for name, tensor in _named(reader):
            weight = dequantise(tensor.data, tensor.tensor_type)
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                weight = unpermute(weight, heads if "q_proj" in name else kv_heads)
            out.write(bf16(weight).tobytes())
    return at


def _named(reader: Any) -> Iterator[tuple[str, Any]]:
    for tensor in reader.tensors:
        if tensor.name in _TENSORS:
            yield _TENSORS[tensor.name], tensor
        elif tensor.name.startswith("blk."):
            _, layer, rest = tensor.name.split(".", 2)
            if rest not in _LAYER_TENSORS:
                raise NotAModelError(f"The tensor {tensor.name} has no place in a Llama model folder.")
            yield f"model.layers.{layer}.{_LAYER_TENSORS[rest]}", tensor


def _config(field: Callable[..., Any], *, tied: bool) -> dict[str, Any]:
    heads = field("llama.attention.head_count")
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "vocab_size": field("llama.vocab_size") or len(field("tokenizer.ggml.tokens")),
        "hidden_size": field("llama.embedding_length"),
        "intermediate_size": field("llama.feed_forward_length"),
        "num_hidden_layers": field("llama.block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": field("llama.attention.head_count_kv", heads),
        "head_dim": field("llama.rope.dimension_count"),
        "max_position_embeddings": field("llama.context_length"),
        "rms_norm_eps": float(field("llama.attention.layer_norm_rms_epsilon")),
        "rope_theta": float(field("llama.rope.freq_base", 10000.0)),
        "tie_word_embeddings": tied,
        "bos_token_id": field("tokenizer.ggml.bos_token_id"),
        "eos_token_id": field("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "bfloat16",
    }


def _tokeniser(field: Callable[..., Any], split: str) -> dict[str, Any]:
    tokens, kinds = field("tokenizer.ggml.tokens"), field("tokenizer.ggml.token_type")
    regex = split != "llama-bpe"  # that one's own pattern does the cutting
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": regex}
    special = [i for i, kind in enumerate(kinds) if kind in (_CONTROL, _USER_DEFINED)]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i, "content": tokens[i], "single_word": False, "lstrip": False, "rstrip": False,
                "normalized": False, "special": kinds[i] == _CONTROL,
            }
            for i in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*_SPLITS[split], byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens)},
            "merges": field("tokenizer.ggml.merges"),
        },
    }  # fmt: skip


def _tokeniser_config(field: Callable[..., Any]) -> dict[str, Any]:
    tokens = field("tokenizer.ggml.tokens")
    found: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": field("llama.context_length"),
        "clean_up_tokenization_spaces": False,
        "chat_template": field("tokenizer.chat_template"),
    }
    for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = field(f"tokenizer.ggml.{name}_token_id")
        if number is not None:
            found[f"{role}_token"] = tokens[number]
    return found


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
