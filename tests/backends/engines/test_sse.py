from __future__ import annotations

import itertools

from harness_backends.engines.sse import SseParser
from hypothesis import given
from hypothesis import strategies as st

STREAM = (
    b": a comment\n\ndata: {\"a\": 1}\n\nevent: x\r\ndata:{\"b\": 2}\r\n\r\ndata: two\ndata: lines\n\n"
    b"data: \xc3\xa9\n\n\n\ndata: [DONE]\n\n"
)  # fmt: skip
EVENTS = [b'{"a": 1}', b'{"b": 2}', b"two\nlines", "é".encode(), b"[DONE]"]


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_events_do_not_depend_on_how_the_network_cuts_the_stream(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    parser = SseParser()
    events = [event for a, b in itertools.pairwise(edges) for event in parser.feed(STREAM[a:b])]
    assert events == EVENTS


def test_an_unfinished_event_is_not_handed_on() -> None:
    parser = SseParser()
    assert parser.feed(b"data: half") == []
    assert parser.feed(b"\n") == []
    assert parser.feed(b"\n") == [b"half"]
