"""The judges file: who may be asked, where, at which price; validated before anything is asked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from harness_analysis.errors import AnalysisError

JUDGE_NAME = re.compile(r"[\w.\-]{1,100}")


class JudgesFileError(AnalysisError):
    """A judges file that cannot be used; the message names the file and the field."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class JudgePrice(_Strict):
    """Dollars per million tokens."""

    input_per_mtok: float = Field(ge=0, allow_inf_nan=False)
    output_per_mtok: float = Field(ge=0, allow_inf_nan=False)


class FleetJudge(_Strict):
    """A model of the fleet as judge: what a job file says of it."""

    model: dict[str, Any]
    """An entry of a job file's `models`."""
    hardware: list[Any] = Field(default_factory=lambda: ["any"])
    energy: str = "measured"
    concurrency: int = Field(default=1, ge=1, le=1024)
    baseline_s: float | None = Field(default=None, ge=0, le=600)
    """Idle time measured before and after; default: that of any job."""


class JudgeSettings(_Strict):
    """One judge: an OpenAI-compatible endpoint, or a model of the fleet."""

    name: str
    base_url: str | None = None
    """With its version, for example https://api.openai.com/v1."""
    model: str | None = None
    key_env: str | None = None
    """The environment variable that holds the key; keys never stand in files or in the database."""
    price: JudgePrice | None = None
    fleet: FleetJudge | None = None
    temperature: float = Field(default=0.0, ge=0, le=2)
    max_output_tokens: int = Field(default=1024, ge=1, le=100_000)
    concurrency: int = Field(default=8, ge=1, le=256)
    timeout_s: float = Field(default=120.0, gt=0, le=3600)
    retries: int = Field(default=5, ge=0, le=20)
    backoff_s: float = Field(default=1.0, gt=0, le=60)
    """Wait before the second try; doubled each time, at most a minute, unless the endpoint says how long."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not JUDGE_NAME.fullmatch(value):
            raise ValueError("a judge's name is of letters, digits, `.`, `_` and `-`")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> JudgeSettings:
        if (self.base_url is None) == (self.fleet is None):
            raise ValueError(
                "give either `base_url` and `model` (an endpoint) or `fleet` (a model of the fleet)"
            )
        if self.base_url is not None and self.model is None:
            raise ValueError("`model` is missing: what the endpoint calls it")
        if self.base_url is not None and not self.base_url.startswith(("http://", "https://")):
            raise ValueError("`base_url` begins with http:// or https://")
        return self


class _JudgesFile(_Strict):
    judges: list[JudgeSettings] = Field(min_length=1)


def load_judges(path: Path) -> dict[str, JudgeSettings]:
    """Read a judges file and return the judges by name.

    Raises:
        JudgesFileError: the file is absent, no YAML, or a field is wrong.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise JudgesFileError(f"{path}: there is no such judges file; name one with --judges") from None
    except (OSError, UnicodeDecodeError) as error:
        raise JudgesFileError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise JudgesFileError(
            f"{path}:{line} {getattr(error, 'problem', None) or 'not valid YAML'}"
        ) from None
    try:
        judges = _JudgesFile.model_validate(data).judges
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        message = first["msg"].removeprefix("Value error, ")
        raise JudgesFileError(f"{path}: `{where}`: {message}") from None
    names = [judge.name for judge in judges]
    double = sorted({name for name in names if names.count(name) > 1})
    if double:
        raise JudgesFileError(f"{path}: the judge {double[0]!r} is there twice; each needs its own name")
    return {judge.name: judge for judge in judges}
