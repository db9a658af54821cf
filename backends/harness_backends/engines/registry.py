"""Find engine adapters by entry point, in this package and in other people's."""

from __future__ import annotations

import difflib
from importlib.metadata import EntryPoint, entry_points

from harness_backends.engines.adapter import EngineAdapter, EngineAvailability
from harness_backends.engines.errors import EngineUnavailableError, UnknownEngineError

GROUP = "harness.engines"


def engine_names() -> list[str]:
    """Return the names of all registered engines, sorted."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def load_engine(name: str) -> EngineAdapter:
    """Return the adapter of that name.

    Raises:
        UnknownEngineError: nothing is registered under that name.
        EngineUnavailableError: its module cannot be imported.
    """
    for entry in entry_points(group=GROUP):
        if entry.name == name:
            return _load(entry)
    names = engine_names()
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(names)}."
    raise UnknownEngineError(f"No engine `{name}` is installed on this machine; {hint}")


def engine_availabilities() -> list[EngineAvailability]:
    """Ask every registered engine whether it can run here."""
    found: list[EngineAvailability] = []
    for name in engine_names():
        try:
            found.append(load_engine(name).availability())
        except Exception as error:  # noqa: BLE001 - an adapter may live in somebody else's package
            found.append(EngineAvailability(name, available=False, reason=str(error)))
    return found


def _load(entry: EntryPoint) -> EngineAdapter:
    try:
        adapter: EngineAdapter = entry.load()()
    except Exception as error:
        raise EngineUnavailableError(
            f"The engine {entry.name} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}."
        ) from error
    return adapter
