"""`harness dataset` in a database directly: what it prints, and what it says to wrong input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness_cli.dataset import dataset


def run(database: str, *arguments: str) -> tuple[int, str]:
    ran = CliRunner().invoke(dataset, arguments, env={"HARNESS_DB": database})
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, ran.output


@pytest.fixture
def database(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'h.db'}"


def _write(path: Path, count: int) -> str:
    rows = [{"question": f"What is {i} + 1?", "gold": str(i + 1), "kind": f"k{i % 2}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_columns_are_named_by_options_and_each_row_keeps_where_it_is_from(
    database: str, tmp_path: Path
) -> None:
    columns = ("--query", "question", "--reference", "gold", "--domain", "kind", "--licence", "CC0-1.0")
    file = _write(tmp_path / "sums.jsonl", 12)
    assert run(database, "import", "sums", file, *columns) == (
        0,
        "sums: 12 rows, 0 skipped, 0 without a reference\n",
    )
    code, said = run(
        database, "split", "sums", "--exact-only", "--part", "a=0.5", "--part", "b=0.5", "--seed", "2"
    )
    assert (code, "2 strata by domain and origin" in said) == (0, True)
    assert run(database, "export", "sums/a", "-o", str(tmp_path / "a.jsonl"))[0] == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert len(rows) == 6
    assert {(row["origin"], row["licence"]) for row in rows} == {("sums", "CC0-1.0")}
    # The same split again is the same datasets; another seed would be others, and nothing of it is stored.
    assert (
        run(database, "split", "sums", "--exact-only", "--part", "a=0.5", "--part", "b=0.5", "--seed", "2")[0]
        == 0
    )
    code, said = run(
        database, "split", "sums", "--exact-only", "--part", "c=0.5", "--part", "b=0.5", "--seed", "9"
    )
    assert (code, "'sums/b' exists with other queries; nothing was stored" in said) == (2, True)
    listed = json.loads(run(database, "list", "--format", "json")[1])
    assert [row["name"] for row in listed] == ["sums", "sums/a", "sums/b"]


def test_a_dry_run_stores_nothing(database: str, tmp_path: Path) -> None:
    run(database, "import", "sums", _write(tmp_path / "s.jsonl", 5), "--query", "question")
    skip = ("--skip", "near", "--skip", "english", "--skip", "reference")
    code, said = run(database, "clean", "sums", *skip, "--dry-run")
    assert (code, "sums-clean would keep 5 of 5 rows of sums" in said) == (0, True)
    assert run(database, "show", "sums-clean")[0] == 2
    code, said = run(database, "clean", "sums", "--skip", "near", "--skip", "english")
    assert (code, "the step `reference` leaves no row of 5" in said) == (2, True)


def test_a_judge_from_outside_is_called(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_judge.py").write_text(
        "def judge(prompts):\n    return ['odd' if ' 3 ' in p else None for p in prompts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run(database, "import", "sums", _write(tmp_path / "s.jsonl", 5), "--query", "question")
    skip = ("--skip", "near", "--skip", "english", "--skip", "reference")
    code, said = run(database, "clean", "sums", *skip, "--judge", "my_judge:judge", "--format", "json")
    assert code == 0
    assert json.loads(said)["steps"][-1]["reasons"] == {"odd": 1}
    assert run(database, "clean", "sums", *skip, "--judge", "my_judge:nobody")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("import", "n", "BAD"), 2, "bad.jsonl line 2: each line must be a JSON object"),
        (("import", "n", "BAD", "--query", "quest"), 2, "line 1: `quest` is missing"),
        (("import", "n", "nowhere.csv"), 2, "nowhere.csv: there is no such file"),
        (("import", "a b", "BAD"), 2, "cannot name a dataset"),
        (("import", "n"), 2, "name a FILE"),
        (("import", "n", "BAD", "--mapping", "gsm8"), 2, "did you mean `gsm8k`"),
        (("list",), 3, "no such database file"),
        (("show", "nope"), 3, "no such database file"),
        (("export", "n", "-o", "x.txt"), 2, "must end in .jsonl"),
        (("split", "n", "--part", "train=lots"), 2, "--part takes PART=SIZE"),
    ],
)
def test_wrong_input_is_one_sentence(
    database: str, tmp_path: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    (tmp_path / "bad.jsonl").write_text('{"query": "x"}\n[1]\n')
    given = [str(tmp_path / "bad.jsonl") if word == "BAD" else word for word in arguments]
    found, said = run(database, *given)
    assert (found, message in said) == (code, True), said
    assert not (tmp_path / "h.db").exists()


def test_the_hub_without_its_library_says_what_to_install(database: str) -> None:
    try:
        import datasets  # noqa: F401
    except ImportError:
        code, said = run(database, "import", "g", "--mapping", "gsm8k")
        assert (code, "pip install 'joule-harness[hub]'" in said) == (2, True)
    else:
        pytest.skip("the package datasets is installed here")
