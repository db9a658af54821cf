"""Worker process: llama.cpp's own HTTP server on loopback, through xllamacpp.

Run as a file, perhaps by an interpreter that does not have the harness: llamacpp_server.py SETTINGS_JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main(settings: dict[str, object]) -> int:
    """Serve one model until SIGTERM."""
    # Run as a file, this folder is on the module path, and it holds an `openai.py`.
    here = str(Path(__file__).resolve().parent)
    sys.path[:] = [folder for folder in sys.path if folder != here]
    try:
        xllamacpp: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        sys.stderr.write(f"{sys.executable} cannot import xllamacpp ({error}); install xllamacpp there\n")
        return 1
    try:
        parameters = _parameters(xllamacpp.CommonParams(), settings)
        if not settings["mmap"]:
            parameters.load_mode = xllamacpp.llama_load_mode.LLAMA_LOAD_MODE_NONE
        server = xllamacpp.Server(parameters)
    except RuntimeError:
        # llama.cpp has written its reason above; a traceback would only push it out of sight.
        sys.stderr.write("llama.cpp did not load the model\n")
        return 1
    sys.stderr.write(f"serving on {server.listening_address}\n")
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        signal.pause()


def _parameters(parameters: Any, settings: dict[str, object]) -> Any:
    slots, context = settings["slots"], settings["context"]
    assert isinstance(slots, int)  # noqa: S101
    assert isinstance(context, int)  # noqa: S101
    values: dict[str, object] = {
        "hostnames": ["127.0.0.1"],
        "port": settings["port"],
        "n_parallel": slots,
        "n_ctx": slots * context,
        "n_gpu_layers": settings["gpu_layers"],
        "n_batch": settings["batch"],
        "n_ubatch": settings["ubatch"],
        "verbosity": settings["verbosity"],
        "endpoint_metrics": True,
        "ui": False,
        # One thread answers one stream, and the ready check and /metrics need one too.
        "n_threads_http": slots + 4,
        # Finished prompts kept in host memory would be prompt caching by another name.
        "cache_ram_mib": 8192 if settings["cache_prompt"] else 0,
        "cache_prompt": settings["cache_prompt"],
        "fit_params": False,
    }
    key = os.environ.pop("HARNESS_ENGINE_KEY", "")
    if key:
        values["api_keys"] = [key]
    for name, value in values.items():
        setattr(parameters, name, value)
    parameters.model.path = settings["model"]
    if settings["threads"]:
        parameters.cpuparams.n_threads = settings["threads"]
        parameters.cpuparams_batch.n_threads = settings["threads_batch"]
    return parameters


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
