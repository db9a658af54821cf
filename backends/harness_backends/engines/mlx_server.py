"""Worker process: mlx_lm's own HTTP server on loopback, with what a measurement needs of it.

Run as a file, perhaps by an interpreter that does not have the harness: mlx_server.py SETTINGS_JSON. Generation,
batching and chat templates are mlx_lm.server's. Changed are four things that would spoil a measurement: it answers
only once the model is loaded, asks for the run's key, reuses no prompt unless the job wants that, and has /metrics.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

POLL_S = 0.02


def main(settings: dict[str, Any]) -> int:
    """Serve one model until SIGTERM."""
    # Run as a file, this folder is on the module path, and it holds an `openai.py`.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [folder for folder in sys.path if folder != here]
    try:
        mlx: Any = importlib.import_module("mlx.core")
        server: Any = importlib.import_module("mlx_lm.server")
    except ImportError as error:
        sys.stderr.write(f"{sys.executable} cannot import mlx_lm ({error}); install mlx-lm there\n")
        return 1
    if settings["device"] == "cpu":
        mlx.set_default_device(mlx.cpu)
    key = os.environ.pop("HARNESS_ENGINE_KEY", "")

    def run(host: str, port: int, provider: Any, **_: object) -> None:
        serve(server, mlx, host, port, provider, key=key, cache=settings["cache_prompt"])

    # Its own main() parses the options, whatever this version calls them, and then calls `run`.
    server.run = run
    sys.argv = ["mlx_lm.server", *settings["options"]]
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    server.main()
    return 1


def serve(server: Any, mlx: Any, host: str, port: int, provider: Any, *, key: str, cache: bool) -> None:
    """Wait until the model is loaded, then answer until the process ends."""
    generator = server.ResponseGenerator(provider, _prompt_cache(server, cache=cache))
    while provider.model is None:
        if not generator.is_healthy:
            sys.stderr.write("mlx_lm did not load the model\n")
            os._exit(1)
        time.sleep(POLL_S)
    gauges = Gauges(mlx)
    handler = _handler(server, gauges, key)
    fingerprint = server.get_system_fingerprint()
    ThreadingHTTPServer.request_queue_size = 1024
    try:
        httpd = ThreadingHTTPServer(
            (host, port), lambda *given: handler(generator, *given, system_fingerprint=fingerprint)
        )
    except OSError as error:
        # The generation thread would keep the process alive, and nobody could ask it anything.
        sys.stderr.write(f"cannot listen on {host}:{port}: {error.strerror}\n")
        os._exit(1)
    threading.Thread(target=_end_with, args=(generator,), daemon=True).start()
    sys.stderr.write(f"serving on {host}:{port}\n")
    httpd.serve_forever()


class Gauges:
    """Requests in flight and memory, as Prometheus text."""

    def __init__(self, mlx: Any) -> None:
        self._mlx = mlx
        self._lock = threading.Lock()
        self._running = 0

    def change(self, by: int) -> None:
        """Count a request in or out."""
        with self._lock:
            self._running += by

    def text(self) -> str:
        """Return the gauges now."""
        values = {
            "mlx:num_requests_running": self._running,
            "mlx:active_memory_bytes": self._mlx.get_active_memory(),
            "mlx:peak_memory_bytes": self._mlx.get_peak_memory(),
        }
        return "".join(f"# TYPE {name} gauge\n{name} {value}\n" for name, value in values.items())


def _prompt_cache(server: Any, *, cache: bool) -> Any:
    class NoReuse(server.LRUPromptCache):  # type: ignore[misc]
        def fetch_nearest_cache(self, model: object, tokens: Any) -> tuple[None, Any]:
            del model
            return None, tokens

        def insert_cache(self, *_: object, **__: object) -> None:
            """Keep nothing."""

    return server.LRUPromptCache() if cache else NoReuse()


def _handler(server: Any, gauges: Gauges, key: str) -> Any:
    class Handler(server.APIHandler):  # type: ignore[misc]
        def do_POST(self) -> None:  # noqa: N802 - http.server's name
            if key and self.headers.get("Authorization") != f"Bearer {key}":
                self._say(401, "application/json", json.dumps({"error": {"message": "wrong or missing key"}}))
                return
            gauges.change(1)
            try:
                super().do_POST()
            finally:
                gauges.change(-1)

        def do_GET(self) -> None:  # noqa: N802
            if self.path == "/metrics":
                self._say(200, "text/plain; version=0.0.4", gauges.text())
            else:
                super().do_GET()

        def log_message(self, format: str, *args: object) -> None:
            """Write no line for each request: it would be work beside the measured engine."""

        def _say(self, status: int, kind: str, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

    return Handler


def _end_with(generator: Any) -> None:
    """End the process when generation died: requests would wait for ever."""
    while generator.is_healthy:
        time.sleep(1.0)
    sys.stderr.write("mlx_lm's generation thread died\n")
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
