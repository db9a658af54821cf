"""Models and accelerators that are known by name: data files with their sources, and a user's own beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness_backends.engines.errors import ModelNotFoundError, NotAModelError
from harness_backends.engines.gguf import read_gguf
from harness_backends.engines.model_files import find_model_file
from harness_backends.home_folder import expanded
from harness_backends.models.folder import facts_of_folder, folder_of

MODELS = Path(__file__).with_name("models.yaml")
ACCELERATORS = Path(__file__).with_name("accelerators.yaml")
VARIABLE = "HARNESS_MODEL_REGISTRY"


T = TypeVar("T", bound=BaseModel)


class RegistryError(Exception):
    """A registry file that cannot be used; the message names the file and the entry."""


class Price(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    input_per_mtok: float | None = Field(default=None, ge=0)
    output_per_mtok: float | None = Field(default=None, ge=0)


class KnownModel(BaseModel):
    """One model of a registry file."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(min_length=1)
    source: str = Field(min_length=1)
    engines: list[str] = Field(min_length=1)
    params_b: float | None = Field(default=None, gt=0)
    active_params_b: float | None = Field(default=None, gt=0)
    precision: str = ""
    price: Price | None = None
    sampling: dict[str, Any] = Field(default_factory=dict)
    note: str = ""
    card: str = ""
    """Whose card states the parameters, where that is not the source's own."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Shapes of the model's config.json, which its parameters can be counted from."""

    def job_entry(self, engine: str = "") -> dict[str, Any]:
        """Return the entry of a job file's `models` that uses this model."""
        found: dict[str, Any] = {"id": self.id, "engine": engine or self.engines[0], "source": self.source}
        for name in ("params_b", "active_params_b", "precision", "sampling"):
            value = getattr(self, name)
            if value:
                found[name] = value
        if self.price is not None:
            found["price"] = self.price.model_dump(exclude_none=True)
        return found


class Accelerator(BaseModel):
    """One accelerator and its maker's figures."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    vendor: str
    pattern: str
    """Shell-style pattern that its name matches, as `hardware: [{name: ...}]` in a job file takes it."""
    memory_gb: float
    memory: str
    bandwidth_gb_s: float
    power_w: float
    power_kind: str


@dataclass(frozen=True, slots=True)
class Presence:
    """Whether a model's files are on this machine."""

    state: Literal["here", "absent", "damaged"]
    path: str = ""
    facts: Mapping[str, str] | None = None
    reason: str = ""


def known_models(extra: Path | None = None) -> list[KnownModel]:
    """Return the shipped models and those of the user's file, which win where an id is the same.

    Args:
        extra: the user's file; default: the one that HARNESS_MODEL_REGISTRY names.

    Raises:
        RegistryError: a file is absent or an entry is wrong.
    """
    files = [MODELS]
    own = extra or (expanded(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None)
    if own is not None:
        files.append(own)
    found: dict[str, KnownModel] = {}
    for file in files:
        for index, entry in enumerate(_entries(file, "models")):
            model = _checked(file, index, KnownModel, entry)
            found[model.id] = model
    return list(found.values())


def accelerators() -> list[Accelerator]:
    """Return the accelerators of the profiling paper."""
    return [
        _checked(ACCELERATORS, i, Accelerator, e)
        for i, e in enumerate(_entries(ACCELERATORS, "accelerators"))
    ]


def presence(source: str) -> Presence:
    """Look for a model's files on this machine, without fetching anything."""
    try:
        if source.endswith(".gguf") and not _on_the_hub(source):
            path = find_model_file(source)
            return Presence("here", str(path), read_gguf(path).facts())
        folder = folder_of(str(expanded(source)))
        if folder is None:
            return Presence("absent")
        return Presence("here", str(folder), facts_of_folder(folder))
    except ModelNotFoundError as error:
        return Presence("absent", reason=str(error))
    except NotAModelError as error:
        return Presence("damaged", reason=str(error))


def _on_the_hub(source: str) -> bool:
    return ":" in source and not source.startswith("package:")


def _entries(file: Path, key: str) -> list[Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RegistryError(f"{file}: there is no such registry file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RegistryError(f"{file}: cannot be read: {error}") from None
    entries = data.get(key) if isinstance(data, dict) else None
    if not isinstance(entries, list):
        raise RegistryError(f"{file}: a registry file holds a list named `{key}`")
    return entries


def _checked(file: Path, index: int, kind: type[T], entry: Any) -> T:
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise RegistryError(f"{file}: entry {index + 1}: `{where}`: {first['msg']}") from None
