"""Builds the stand-in vendor libraries with the system's C compiler: `python -m tests.standins.build`.

The result lies in tests/standins/build/<library> and is built again when a source is newer. Put that folder
on LD_LIBRARY_PATH and point HARNESS_STANDIN at a description (tests/standins/play.py writes one).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
BUILD = HERE / "build"
SOURCES = {"libnvidia-ml.so.1": ("nvml.c",), "libamd_smi.so": ("amdsmi.c", "amdsmi_stubs.c")}


class NoCompilerError(Exception):
    """There is no C compiler on this machine."""


def build_library(name: str) -> Path:
    """Build one stand-in library if it is missing or older than its sources, and return its path.

    Raises:
        NoCompilerError: neither $CC nor cc is there.
    """
    sources, target = [HERE / source for source in SOURCES[name]], BUILD / name
    newest = max(path.stat().st_mtime for path in [*sources, *HERE.glob("*.h"), *HERE.glob("*.inc")])
    if target.exists() and target.stat().st_mtime > newest:
        return target
    compiler = os.environ.get("CC") or shutil.which("cc")
    if not compiler:
        msg = "no C compiler (cc) on this machine; install gcc or clang to build the stand-ins"
        raise NoCompilerError(msg)
    BUILD.mkdir(exist_ok=True)
    # Several test processes may build at once: each writes its own file, and renaming is atomic.
    partial = BUILD / f"{name}.{os.getpid()}"
    flags = ["-O2", "-Wall", "-Wextra", "-fPIC", "-shared", "-fvisibility=hidden", f"-Wl,-soname,{name}"]
    subprocess.run([compiler, *flags, "-o", str(partial), *map(str, sources), "-lm"], check=True)
    partial.replace(target)
    return target


def build_all() -> list[Path]:
    """Build every stand-in library."""
    return [build_library(name) for name in SOURCES]


if __name__ == "__main__":
    for path in build_all():
        sys.stdout.write(f"{path}\n")
