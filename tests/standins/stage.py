"""Puts a stand-in vendor library into this process, so that the real Python wrapper runs on top of it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.standins.build import NoCompilerError, build_library
from tests.standins.play import VARIABLE, Stage


class Control:
    """The stand-in's own clock and the truth it publishes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        library.standin_set_time_s.argtypes = [ctypes.c_double]
        library.standin_true_energy_j.argtypes = [ctypes.c_uint, ctypes.c_double]
        library.standin_true_energy_j.restype = ctypes.c_double
        library.standin_epoch_s.restype = ctypes.c_double
        library.standin_calls.restype = ctypes.c_long
        self._t_ns = -1

    def set_time_s(self, t_s: float) -> None:
        """Hold the stand-in's time; a negative value lets it run with CLOCK_MONOTONIC again."""
        self._t_ns = round(t_s * 1e9)
        self._library.standin_set_time_s(t_s)

    def now_ns(self) -> int:
        """Return the held time: the clock for sources under simulated time."""
        return self._t_ns

    def true_energy_j(self, start_s: float, end_s: float, device: int = 0) -> float:
        """Return the energy that the device really used."""
        energy_j = self._library.standin_true_energy_j
        return energy_j(device, end_s) - energy_j(device, start_s)

    @property
    def epoch_s(self) -> float:
        """CLOCK_MONOTONIC of the curve's zero, s."""
        return self._library.standin_epoch_s()

    @property
    def calls(self) -> int:
        """Vendor functions called since the library was initialised."""
        return self._library.standin_calls()


@contextmanager
def nvml_on_stage(stage: Stage, folder: Path) -> Iterator[Control]:
    """Have pynvml in this process see the stage's GPUs."""
    with _library_on_stage("libnvidia-ml.so.1", stage, folder) as library:
        yield Control(library)
        while library.nvmlShutdown() == 0:
            pass
        library.standin_set_time_s(ctypes.c_double(-1.0))


@contextmanager
def amdsmi_on_stage(stage: Stage, folder: Path) -> Iterator[Control]:
    """Have the amdsmi module in this process see the stage's GPUs; its layouts are those of release 7.0."""
    with _library_on_stage("libamd_smi.so", stage, folder) as library:
        yield Control(library)
        while library.amdsmi_shut_down() == 0:
            pass
        library.standin_set_time_s(ctypes.c_double(-1.0))


Play = Callable[[Stage], Control]


@contextmanager
def stages_of(
    on_stage: Callable[[Stage, Path], AbstractContextManager[Control]], folder: Path
) -> Iterator[Play]:
    """Give a function that sets a stage with its clock held at 10 s; all that it set are taken down at the end."""
    with ExitStack() as stack:

        def begin(stage: Stage) -> Control:
            control = stack.enter_context(on_stage(stage, folder))
            control.set_time_s(10.0)
            return control

        yield begin


@contextmanager
def _library_on_stage(name: str, stage: Stage, folder: Path) -> Iterator[ctypes.CDLL]:
    try:
        path = build_library(name)
    except NoCompilerError as error:
        pytest.skip(str(error))
    # Once a library of this soname is loaded, the wrapper's own CDLL(name) finds it, wherever it lies.
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = str(stage.write(folder))
    try:
        yield library
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
