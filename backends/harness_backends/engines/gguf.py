"""Read what a GGUF file says about its model, without loading it.

Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (version 2 and 3, little endian).
"""

from __future__ import annotations

import math
import mmap
import struct
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from harness_backends.engines.errors import ModelNotFoundError, NotAModelError
from harness_backends.models.precision import precision_name

MAGIC = b"GGUF"
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING = 8
_ARRAY = 9
_KEPT_ARRAY = 256
_TENSOR_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K",
    12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S",
    20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64",
    29: "IQ1_M", 30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4", 40: "NVFP4", 41: "Q1_0",
}  # fmt: skip
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M",
    13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 19: "IQ2_XXS", 20: "IQ2_XS",
    21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL", 26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S",
    29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0", 37: "TQ2_0", 38: "MXFP4_MOE",
    39: "NVFP4", 40: "Q1_0",
}  # fmt: skip
"""Names of `general.file_type` (llama.cpp, include/llama.h, `llama_ftype`)."""
_GUESSED = 1024
"""Set beside a file type that llama.cpp took from the tensors because the file named none."""


@dataclass(frozen=True, slots=True)
class GgufModel:
    """What the header of a GGUF file tells."""

    path: Path
    version: int
    metadata: dict[str, object] = field(default_factory=dict[str, object])
    """Key-value pairs; arrays longer than 256 entries (vocabularies) are kept as their length."""
    parameters: int = 0
    expert_parameters: int = 0
    """Those of the parameters that belong to one expert of many."""
    looked_up: int = 0
    """Those of the input embedding where the output head has a matrix of its own: looked up, never multiplied."""
    quantisation: str = ""
    """Type of most weights, for example `Q4_K`."""

    def number(self, key: str) -> int | None:
        """Return an architecture's number, for example `block_count` for `llama.block_count`."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture', '')}.{key}")
        if isinstance(value, list) and value:
            value = max(value)  # some models vary it by layer
        return value if isinstance(value, int) else None

    def active_parameters(self) -> int | None:
        """Return the parameters that one token meets: all but the share of experts that are not chosen."""
        experts, used = self.number("expert_count"), self.number("expert_used_count")
        if not experts:
            return self.parameters or None
        if not used or not self.expert_parameters:
            return None
        return self.parameters - self.expert_parameters + self.expert_parameters * used // experts

    def attention_width(self) -> int | None:
        """Return heads x head width, which some models make wider than the embedding."""
        heads, width = self.number("attention.head_count"), self.number("attention.key_length")
        return heads * width if heads and width else self.number("embedding_length")

    def precision(self) -> str:
        """Return the quantisation that the file is known by; where it names none, the type of most weights.

        The two differ: in a small model with a large vocabulary most weights of a Q4_K_M file are embeddings in Q8_0.
        """
        named = self.metadata.get("general.file_type")
        name = _FILE_TYPES.get(named & ~_GUESSED, "") if isinstance(named, int) else ""
        return precision_name(name or self.quantisation)

    def facts(self) -> dict[str, str]:
        """Return the facts that FLOPs, precision and reports are made from, as text."""
        found: dict[str, object | None] = {
            "model_file": self.path.name,
            "model_bytes": self.path.stat().st_size,
            "model_name": self.metadata.get("general.name"),
            "architecture": self.metadata.get("general.architecture"),
            "parameters": self.parameters or None,
            "active_parameters": self.active_parameters(),
            "looked_up_parameters": self.looked_up or None,
            "quantisation": self.quantisation,
            "precision": self.precision(),
            "layers": self.number("block_count"),
            "embedding_length": self.number("embedding_length"),
            "attention_width": self.attention_width(),
            "feed_forward_length": self.number("feed_forward_length"),
            "attention_heads": self.number("attention.head_count"),
            "attention_kv_heads": self.number("attention.head_count_kv"),
            "experts": self.number("expert_count"),
            "experts_used": self.number("expert_used_count"),
            "context_trained": self.number("context_length"),
        }
        return {name: str(value) for name, value in found.items() if value not in (None, "")}


def read_gguf(path: Path) -> GgufModel:
    """Read the header of a GGUF file.

    Raises:
        ModelNotFoundError: there is no such file, or it cannot be read.
        NotAModelError: it is not GGUF, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            if file.read(4) != MAGIC:
                raise NotAModelError(
                    f"{path} is not a GGUF model (it does not begin with GGUF); give a .gguf file to llamacpp."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Header(path, data).read()
    except OSError as error:
        raise ModelNotFoundError(
            f"The model file {path} cannot be read: {error.strerror or error}."
        ) from None
    except (struct.error, UnicodeDecodeError, KeyError, IndexError, OverflowError) as error:
        raise NotAModelError(
            f"{path} begins like a GGUF model but its header is damaged ({error}); fetch the file again."
        ) from None


class _Header:
    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self._path = path
        self._data = data
        self._at = len(MAGIC)

    def read(self) -> GgufModel:
        version = self._number("I")
        if version not in (2, 3):
            raise NotAModelError(f"{self._path} is GGUF version {version}; versions 2 and 3 can be read.")
        tensors, pairs = self._number("Q"), self._number("Q")
        metadata: dict[str, object] = {}
        for _ in range(pairs):
            key = self._text()
            metadata[key] = self._value(self._number("I"))
        parameters = experts = embedding = 0
        has_head = False
        weights: Counter[int] = Counter()
        for _ in range(tensors):
            name = self._text()
            count = math.prod(self._number("Q") for _ in range(self._number("I")))
            kind = self._number("I")
            self._number("Q")
            parameters += count
            experts += count if "_exps." in name else 0
            embedding += count if name == "token_embd.weight" else 0
            has_head = has_head or name == "output.weight"
            weights[kind] += count
        kind = weights.most_common(1)[0][0] if weights else -1
        quantisation = _TENSOR_TYPES.get(kind, f"type {kind}")
        looked_up = embedding if has_head else 0
        return GgufModel(self._path, version, metadata, parameters, experts, looked_up, quantisation)

    def _number(self, code: str) -> int:
        size = struct.calcsize(code)
        (value,) = struct.unpack_from(f"<{code}", self._data, self._at)
        self._at += size
        return value

    def _text(self) -> str:
        length = self._number("Q")
        self._check(length)
        text = self._data[self._at : self._at + length].decode("utf-8", "replace")
        self._at += length
        return text

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            return self._number(_SCALARS[kind])
        kind, length = self._number("I"), self._number("Q")
        self._check(length)
        if length <= _KEPT_ARRAY:
            return [self._value(kind) for _ in range(length)]
        if kind in _SCALARS:
            self._at += length * struct.calcsize(_SCALARS[kind])
        else:
            for _ in range(length):
                self._skip(kind)
        return length

    def _skip(self, kind: int) -> None:
        if kind == _STRING:
            (length,) = struct.unpack_from("<Q", self._data, self._at)
            self._at += 8 + length
        else:
            self._value(kind)

    def _check(self, length: int) -> None:
        if self._at + length > len(self._data):
            raise NotAModelError(
                f"{self._path} begins like a GGUF model but ends inside its header; fetch the file again."
            )
