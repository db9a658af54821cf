"""An endpoint that takes no schema, and fails the request that goes without one: a real server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from harness_analysis.evaluation.judge_client import Answered, JudgeClient, MemoryCache, Undecided
from harness_analysis.evaluation.judge_settings import JudgeSettings
from harness_analysis.evaluation.replies import TrueFalseReply

REPLY = {"choices": [{"message": {"content": '{"correct": true}'}}]}


class _WithoutSchema(BaseHTTPRequestHandler):
    cuts_left = 0
    asked: list[bool]
    """Whether each request had a schema."""

    def do_POST(self) -> None:
        body: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with_schema = "response_format" in body
        self.asked.append(with_schema)
        if with_schema:
            self._say(400, {"error": {"message": "response_format is not supported"}})
        elif self.server.cuts_left > 0:  # type: ignore[attr-defined]
            self.server.cuts_left -= 1  # type: ignore[attr-defined]
            self.close_connection = True
        else:
            self._say(200, REPLY)

    def _say(self, code: int, data: dict[str, Any]) -> None:
        content = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    _WithoutSchema.asked = []
    made = ThreadingHTTPServer(("127.0.0.1", 0), _WithoutSchema)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def _ask(server: ThreadingHTTPServer, cuts: int) -> Answered[TrueFalseReply] | Undecided:
    server.cuts_left = cuts  # type: ignore[attr-defined]
    url = f"http://127.0.0.1:{server.server_port}/v1"
    settings = JudgeSettings(name="j", base_url=url, model="m", backoff_s=0.01, retries=2)
    with JudgeClient(settings, MemoryCache()) as client:
        return client.ask("question", TrueFalseReply)


def test_a_connection_cut_on_the_request_without_a_schema_is_tried_again(server: ThreadingHTTPServer) -> None:
    assert isinstance(_ask(server, cuts=1), Answered)
    assert _WithoutSchema.asked == [True, False, False], "the schema is left out from then on"


def test_connections_that_are_always_cut_leave_a_reason(server: ThreadingHTTPServer) -> None:
    asked = _ask(server, cuts=99)
    assert isinstance(asked, Undecided)
    assert "the connection failed" in asked.reason
    assert "(3 tries)" in asked.reason
