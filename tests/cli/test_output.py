"""Listings: what a table folds and shortens, and what JSON and CSV never lose."""

from __future__ import annotations

import json
import math
import re

import pytest
from harness_cli.output import ROWS_AT_ONCE, cell, print_rows, significant, to_csv

ROWS = [
    {"query": "a", "model": "m", "joules": 1.23456, "flags": "", "error": None},
    {"query": "b", "model": "m", "joules": math.nan, "flags": "", "error": None},
]


def test_a_folded_table_says_once_what_all_rows_share(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, "table", labels={"joules": "J"}, fold=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "All rows: model m"
    assert lines[1].split() == ["query", "J"]
    assert lines[2].split() == ["a", "1.235"]
    assert lines[3].split() == ["b", "-"]


def test_json_and_csv_carry_every_column_and_absent_values_as_absent(
    capsys: pytest.CaptureFixture[str],
) -> None:
    print_rows(ROWS, "json", columns=["query"], fold=True)
    assert json.loads(capsys.readouterr().out)[1] == {
        "query": "b", "model": "m", "joules": None, "flags": "", "error": None,
    }  # fmt: skip
    assert to_csv(ROWS).splitlines() == ["query,model,joules,flags,error", "a,m,1.23456,,", "b,m,,,"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (0.00012344, "0.0001234"),
        (1234.5678, "1,235"),
        (12345678.0, "1.235e+07"),
        (3.14159, "3.142"),
    ],
)
def test_numbers_have_four_significant_digits(value: float, shown: str) -> None:
    assert significant(value) == shown


def test_cells_are_plain_words() -> None:
    assert cell(value=True) == "yes"
    assert cell(None) == "-"
    assert cell(["a", "b"]) == "a, b"


@pytest.mark.parametrize("width", [40, 60, 80])
def test_a_narrow_terminal_cuts_no_number_and_names_the_columns_left_out(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", str(width))
    rows = [
        {
            "name": "box-1",
            "model": "smollm2-135m-q4_1",
            **{f"joules of part {n}": 1001 + n for n in range(9)},
        }
    ]
    print_rows(rows, "table")
    *table, notice = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    shown = [n for n in range(9) if any(f"{1001 + n}" in line for line in table)]
    assert shown == list(range(len(shown)))
    assert all(len(line) <= width for line in table)
    assert notice.startswith("Too narrow here for: ")
    assert [int(n) for n in re.findall(r"part (\d)", notice)] == list(range(len(shown), 9))
    assert shown


def test_a_long_table_has_one_heading_and_straight_columns(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"agent": "box-1", "t_ns": n, "note": "x" * (n % 30)} for n in range(2 * ROWS_AT_ONCE + 1)]
    print_rows(rows, "table")
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["agent", "t_ns", "note"]
    assert len(lines) == len(rows)
    end = heading.index("t_ns") + len("t_ns")
    assert [int(line[:end].split()[1]) for line in lines] == list(range(len(rows)))
    assert {line[end : end + 2] for line in lines} == {"  "}
