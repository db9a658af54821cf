"""The committed stubs are those of the committed protocol."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PROTOS = sorted((REPOSITORY / "proto" / "harness_proto" / "v1").glob("*.proto"))
KINDS = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def test_the_stubs_are_not_stale(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools")
    outputs = [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-I",
            "proto",
            *outputs,
            *(str(p.relative_to(REPOSITORY)) for p in PROTOS),
        ],
        check=True,
        cwd=REPOSITORY,
    )
    assert PROTOS
    for proto in PROTOS:
        for kind in KINDS:
            name = f"{proto.stem}{kind}"
            made = (tmp_path / "harness_proto" / "v1" / name).read_text()
            committed = (proto.parent / name).read_text()
            assert made == committed, f"{name} is stale: run `make proto`"
