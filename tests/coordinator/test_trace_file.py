"""Recorded traces: the public formats, and what a broken one is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness_coordinator.query_file import QueryRow
from harness_coordinator.trace_file import TraceFileError, queries_of_trace, read_trace, with_arrivals


def test_azures_and_mooncakes_formats_and_our_own(tmp_path: Path) -> None:
    azure = tmp_path / "azure.csv"
    azure.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
    )
    first, second = read_trace(azure)
    assert (first.arrival_s, first.prompt_tokens, first.output_tokens) == (0.0, 374, 44)
    assert second.arrival_s == pytest.approx(4.314579, abs=1e-6)
    mooncake = tmp_path / "mooncake.jsonl"
    mooncake.write_text(
        '{"timestamp": 3000, "input_length": 10, "output_length": 5}\n'
        '{"timestamp": 0, "input_length": 7, "output_length": 4}\n'
    )
    assert [a.arrival_s for a in read_trace(mooncake)] == [0.0, 3.0], "in the order of their times"
    own = tmp_path / "own.csv"
    own.write_text("arrival_s,prompt_tokens,output_tokens\n5,1,2\n5.5,3,4\n")
    assert [a.arrival_s for a in read_trace(own)] == [0.0, 0.5]
    assert len(read_trace(own, limit=1)) == 1


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "time,tokens\n1,2\n", "line 2: there is no 'arrival_s'"),
        ("a.csv", "arrival_s,prompt_tokens,output_tokens\n1,2,x\n", "line 2: invalid literal"),
        ("a.csv", "arrival_s,prompt_tokens,output_tokens\n1,2,-3\n", "line 2: -3 is no number of tokens"),
        ("a.csv", "arrival_s,prompt_tokens,output_tokens\n", "holds no arrivals"),
        ("a.jsonl", "{\n", "line 1: not valid JSON"),
        ("a.jsonl", "[1]\n", "line 1: each line must be a JSON object"),
    ],
)
def test_a_broken_trace_names_its_line(tmp_path: Path, name: str, text: str, told: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(TraceFileError) as caught:
        read_trace(path)
    assert told in str(caught.value)
    with pytest.raises(TraceFileError, match="there is no such trace file"):
        read_trace(tmp_path / "nowhere.csv")


def test_queries_take_the_arrivals_of_a_trace_and_made_up_ones_its_lengths(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,50,9\n1.5,20,8\n")
    trace = read_trace(path)
    rows = [QueryRow(f"q{i}", "hello", "", None, "", '{"domain_note": 1}') for i in range(2)]
    extra = json.loads(with_arrivals(rows, trace, "t")[1].extra_json)
    assert extra == {"domain_note": 1, "arrival_s": 1.5, "recorded_prompt_tokens": 20, "output_tokens": 8}
    with pytest.raises(TraceFileError, match="holds 2 arrivals and there are 4 queries"):
        with_arrivals(rows * 2, trace, "t")
    made = queries_of_trace(trace)
    assert [len(row.text.split()) for row in made] == [48, 18]
    assert made[0].text[:10] != made[1].text[:10], "no shared prefix that a cache could use"


def test_the_public_traces_are_read_whole(shared_data: Path) -> None:
    conversation = read_trace(shared_data / "traces" / "AzureLLMInferenceTrace_conv.csv")
    assert (len(conversation), conversation[0].prompt_tokens) == (19366, 374)
    assert 3000 < conversation[-1].arrival_s < 4000
    mooncake = read_trace(shared_data / "traces" / "mooncake_conversation_trace.jsonl", limit=500)
    assert len(mooncake) == 500
