"""`engine_args` of a job file: a table of what an engine takes, checked before anything is started."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness_backends.engines.errors import EngineArgumentError

_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "an object",
    list: "a list of texts",
}


@dataclass(frozen=True, slots=True)
class Argument:
    """One entry that an engine takes."""

    name: str
    kind: type[bool] | type[int] | type[float] | type[str] | type[dict[str, object]] | type[list[str]]
    default: object
    help: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arguments:
    """Checked arguments with their defaults filled in, read by type."""

    values: Mapping[str, object]

    def __getitem__(self, name: str) -> object:
        return self.values[name]

    def integer(self, name: str) -> int:
        """Return a whole number."""
        value = self.values[name]
        assert isinstance(value, int)  # noqa: S101 - `check_arguments` has made sure
        return value

    def number(self, name: str) -> float:
        """Return a number."""
        value = self.values[name]
        assert isinstance(value, int | float)  # noqa: S101
        return float(value)

    def text(self, name: str) -> str:
        """Return a text."""
        value = self.values[name]
        assert isinstance(value, str)  # noqa: S101
        return value

    def flag(self, name: str) -> bool:
        """Return a truth value."""
        return self.values[name] is True

    def object(self, name: str) -> dict[str, object]:
        """Return an object."""
        value = self.values[name]
        assert isinstance(value, dict)  # noqa: S101
        return value

    def items(self, name: str) -> list[str]:
        """Return a list of texts."""
        value = self.values[name]
        assert isinstance(value, list)  # noqa: S101
        return [str(item) for item in value]


def check_arguments(engine: str, known: Sequence[Argument], given: Mapping[str, object]) -> Arguments:
    """Check the given entries against the table and fill in the defaults.

    Args:
        engine: the engine's name, for messages.
        known: what the engine takes.
        given: the job file's `engine_args`.

    Raises:
        EngineArgumentError: an entry is unknown, of the wrong type, or out of range.
    """
    table = {argument.name: argument for argument in known}
    for name in given:
        if name not in table:
            raise EngineArgumentError(_unknown(engine, name, list(table)))
    values = {argument.name: argument.default for argument in known}
    for name, value in given.items():
        if value is not None:
            values[name] = _checked(engine, table[name], value)
    return Arguments(values)


def parse_arguments_json(engine_args_json: str) -> dict[str, object]:
    """Read `engine_args` as they travel on the wire.

    Raises:
        EngineArgumentError: the text is not a JSON object.
    """
    if not engine_args_json:
        return {}
    try:
        value = json.loads(engine_args_json)
    except ValueError as error:
        raise EngineArgumentError(f"engine_args is not JSON ({error}); write it as an object.") from None
    if not isinstance(value, dict):
        raise EngineArgumentError(
            f"engine_args is {type(value).__name__}, not an object; write it as {{key: value}}."
        )
    return value


def _unknown(engine: str, name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean `{near[0]}`?" if near else f"it takes {', '.join(names)}."
    return f"engine_args: the engine {engine} knows no `{name}`; {hint}"


def _checked(engine: str, argument: Argument, value: object) -> object:
    kind = argument.kind
    fits = isinstance(value, int | float) if kind is float else isinstance(value, kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise EngineArgumentError(
            f"engine_args: `{argument.name}` of the engine {engine} must be {_KINDS[kind]}, not {value!r}."
        )
    if isinstance(value, list) and not all(isinstance(item, str) for item in value):
        raise EngineArgumentError(
            f"engine_args: `{argument.name}` of the engine {engine} must hold texts only, not {value!r}."
        )
    if isinstance(value, int | float) and not argument.minimum <= value <= argument.maximum:
        span = f"at least {argument.minimum:g}"
        if argument.maximum < math.inf:
            span = f"between {argument.minimum:g} and {argument.maximum:g}"
        raise EngineArgumentError(
            f"engine_args: `{argument.name}` of the engine {engine} must be {span}, not {value!r}."
        )
    if argument.choices and value not in argument.choices:
        raise EngineArgumentError(
            f"engine_args: `{argument.name}` of the engine {engine} must be one of "
            f"{', '.join(argument.choices)}, not {value!r}."
        )
    return value
