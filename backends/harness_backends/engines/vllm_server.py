"""Becomes vLLM's OpenAI server. Run as a file, perhaps by an interpreter that does not have the harness.

vllm_server.py OPTION...: every option is handed on to `python -m vllm.entrypoints.openai.api_server`.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from typing import Any

MODULE = "vllm.entrypoints.openai.api_server"
FIRST_WITH_UUIDS = (0, 32)
"""Earlier versions read the entries of CUDA_VISIBLE_DEVICES as numbers and die of a UUID (vllm issue 41848)."""


def main(options: list[str]) -> None:
    """Replace this process by the server; returns only where that is not possible."""
    # In a child of `-m` the working directory is on the module path; this folder, which holds an `openai.py`, is not.
    here = os.path.dirname(os.path.realpath(__file__))  # noqa: PTH120
    sys.path[:] = [folder for folder in sys.path if os.path.realpath(folder) != here]
    if importlib.util.find_spec("vllm") is None:
        sys.stderr.write(f"{sys.executable} cannot import vllm; install vllm there\n")
        raise SystemExit(1)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if "GPU-" in visible and installed_version() < FIRST_WITH_UUIDS:
        os.environ["CUDA_VISIBLE_DEVICES"] = indices(visible)
    os.execv(sys.executable, [sys.executable, "-m", MODULE, *options])  # noqa: S606


def installed_version() -> tuple[int, int]:
    """Return major and minor version of the installed vLLM, (0, 0) when its name tells none."""
    for name in importlib.metadata.packages_distributions().get("vllm", []):
        numbers = importlib.metadata.version(name).split(".")[:2]
        if len(numbers) == 2 and all(number.isdigit() for number in numbers):
            return int(numbers[0]), int(numbers[1])
    return (0, 0)


def indices(visible: str) -> str:
    """Return NVML's indices of UUIDs; with CUDA_DEVICE_ORDER=PCI_BUS_ID they are CUDA's own."""
    nvml: Any = None
    for name in ("pynvml", "vllm.third_party.pynvml"):
        try:
            nvml = importlib.import_module(name)
            break
        except ImportError:
            continue
    if nvml is None:
        sys.stderr.write(
            "this vLLM takes no GPU UUIDs and has no pynvml to translate them; install nvidia-ml-py there\n"
        )
        raise SystemExit(1)
    nvml.nvmlInit()
    return ",".join(
        str(nvml.nvmlDeviceGetIndex(nvml.nvmlDeviceGetHandleByUUID(uuid))) for uuid in visible.split(",")
    )


if __name__ == "__main__":
    main(sys.argv[1:])
