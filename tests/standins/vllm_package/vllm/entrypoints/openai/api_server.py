"""Takes vLLM's options, writes what it was given and the lines vLLM writes, and serves the stand-in engine."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from harness_backends.engines.standin_server import serve


def main() -> int:
    """Serve until SIGTERM."""
    options = sys.argv[1:]
    given = {
        "options": options,
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "path": sys.path[0],
        "kv_space": os.environ.get("VLLM_CPU_KVCACHE_SPACE"),
    }
    Path("given.json").write_text(json.dumps(given))
    os.environ["HARNESS_ENGINE_KEY"] = os.environ.get("VLLM_API_KEY", "")
    sys.stderr.write(
        "INFO [core.py:133] Initializing a V1 LLM engine (v0.31.9) with config: model='m', dtype=torch.float16, "
        "max_seq_len=8192, quantization=None\n"
        "INFO [scheduler.py:308] Chunked prefill is enabled with max_num_batched_tokens=16384.\n"
        "INFO [kv_cache_utils.py:99] GPU KV cache size: 46,592 tokens\n"
    )
    port = int(options[options.index("--port") + 1])
    return asyncio.run(serve({"port": port, "tokens": 5, "first_token_s": 0.2, "metrics_prefix": "vllm"}))


if __name__ == "__main__":
    sys.exit(main())
