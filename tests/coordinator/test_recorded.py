"""Recorded files: three formats, one meaning; what is wrong is named by file, line and column."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from harness_coordinator.recorded import RecordedFileError, read_samples, read_windows

ROWS = [(1_000, 50.0, 1.5), (2_000, None, 2.5), (3_000, 52.0, None)]


def _write(folder: Path, suffix: str) -> Path:
    path = folder / f"samples{suffix}"
    if suffix == ".csv":
        lines = [f"{t},{'' if p is None else p},{'' if e is None else e}" for t, p, e in ROWS]
        path.write_text("\n".join(["t_ns,power_w,energy_j", *lines]) + "\n")
    elif suffix == ".jsonl":
        path.write_text(
            "".join(json.dumps({"t_ns": t, "power_w": p, "energy_j": e}) + "\n" for t, p, e in ROWS)
        )
    else:
        pa = pytest.importorskip("pyarrow")
        pq = pytest.importorskip("pyarrow.parquet")
        t_ns, power_w, energy_j = zip(*ROWS, strict=True)
        pq.write_table(pa.table({"t_ns": t_ns, "power_w": power_w, "energy_j": energy_j}), path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_samples(tmp_path: Path, suffix: str) -> None:
    samples = read_samples(_write(tmp_path, suffix)).samples
    assert samples.t_ns.tolist() == [1_000, 2_000, 3_000]
    assert samples.t_ns.dtype == np.int64
    assert samples.power_w == pytest.approx([50.0, np.nan, 52.0], nan_ok=True)
    assert samples.energy_j == pytest.approx([1.5, 2.5, np.nan], nan_ok=True)


def test_times_keep_every_nanosecond(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("t_ns,power_w\n9223372036854775807,1\n1.5e9,2\n")
    assert read_samples(path).samples.t_ns.tolist() == [2**63 - 1, 1_500_000_000]


def test_one_source_of_several_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "samples.csv"
    path.write_text("t_ns,source,power_w\n1,gpu0,5\n1,gpu1,7\n2,gpu0,6\n")
    with pytest.raises(RecordedFileError, match="several sources; choose one with --source: gpu0, gpu1"):
        read_samples(path)
    assert read_samples(path, "gpu0").samples.power_w.tolist() == [5.0, 6.0]
    with pytest.raises(RecordedFileError, match="no source 'gpu9'"):
        read_samples(path, "gpu9")


def test_windows_carry_ids_and_tokens(tmp_path: Path) -> None:
    path = tmp_path / "windows.jsonl"
    path.write_text(
        '{"id": "a", "start_ns": 1, "end_ns": 5, "prompt_tokens": 7}\n'
        '\n{"id": 2, "start_ns": 3, "end_ns": 9, "output_tokens": 11, "first_token_ns": 4}\n'
    )
    windows = read_windows(path)
    assert windows.ids == ["a", "2"]
    assert windows.queries.start_ns.tolist() == [1, 3]
    assert windows.queries.first_token_ns.tolist() == [0, 4]
    assert windows.queries.prompt_tokens == pytest.approx([7.0, np.nan], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty; its first line must name the columns"),
        ("time,power_w\n1,2\n", "has no column t_ns; its columns are time, power_w"),
        ("t_ns,volts\n1,2\n", "neither a column power_w nor energy_j; its columns are t_ns, volts"),
        ("t_ns,power_w\n", "holds no samples"),
        ("t_ns,power_w\n1,2\n2,many\n", r"line 3: power_w is 'many', not a number"),
        ("t_ns,power_w\n1,2\nsoon,3\n", r"line 3: t_ns is 'soon', not a time in whole ns"),
        ("t_ns,power_w\n1,2\n,3\n", r"line 3: t_ns is '', not a time"),
        ("t_ns,power_w\n1,2\n2,3,4\n", r"line 3: 3 cells under 2 column names"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "samples.csv"
    path.write_text(text)
    with pytest.raises(RecordedFileError, match=message) as caught:
        read_samples(path)
    assert str(path) in str(caught.value)


def test_files_that_are_not_there_or_not_what_they_say(tmp_path: Path) -> None:
    with pytest.raises(RecordedFileError, match="there is no file"):
        read_samples(tmp_path / "none.csv")
    with pytest.raises(RecordedFileError, match=r"must end in \.csv, \.jsonl, \.parquet"):
        read_samples(tmp_path / "samples.xlsx")
    binary = tmp_path / "samples.csv"
    binary.write_bytes(b"t_ns,power_w\n\xff\xfe\n")
    with pytest.raises(RecordedFileError, match="not UTF-8"):
        read_samples(binary)
    pytest.importorskip("pyarrow")
    wrong = tmp_path / "samples.parquet"
    wrong.write_text("t_ns,power_w\n")
    with pytest.raises(RecordedFileError, match="not a Parquet file"):
        read_samples(wrong)
    broken = tmp_path / "windows.jsonl"
    broken.write_text('{"id": 1}\n{"id": \n')
    with pytest.raises(RecordedFileError, match="line 2 is not JSON"):
        read_windows(broken)


def test_an_id_may_stand_only_once(tmp_path: Path) -> None:
    path = tmp_path / "windows.csv"
    path.write_text("id,start_ns,end_ns\na,1,2\nb,1,2\na,3,4\n")
    with pytest.raises(RecordedFileError, match="line 4: id 'a' was used in line 2 already"):
        read_windows(path)
