"""`harness models`: which models are known by name, which of them are on this machine, and conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from harness_cli.failure import bad_input, work_failed
from harness_cli.output import format_option, print_rows

TABLE_COLUMNS = (
    "id",
    "engines",
    "params_b",
    "active_params_b",
    "precision",
    "input_per_mtok",
    "output_per_mtok",
    "here",
    "source",
)


@click.group(invoke_without_command=True)
@click.option(
    "--registry",
    type=click.Path(path_type=Path),
    envvar="HARNESS_MODEL_REGISTRY",
    help="Your own registry file.",
)
@click.option("--here", "only_here", is_flag=True, help="Only models whose files are on this machine.")
@format_option
@click.pass_context
def models(context: click.Context, registry: Path | None, only_here: bool, output_format: str) -> None:
    """List the models that are known by name, and which of them an agent on this machine has.

    Nothing is fetched. Parameters and precision are those of the model's own files where they are here, else those
    of its card; prices are USD per million tokens.
    """
    context.obj = registry
    if context.invoked_subcommand is None:
        rows = [_row(model) for model in _known(registry)]
        print_rows(
            [row for row in rows if row["here"] == "yes" or not only_here],
            output_format,
            columns=TABLE_COLUMNS,
            labels={"input_per_mtok": "$/M in", "output_per_mtok": "$/M out"},
            empty="None of the known models is on this machine.",
        )


@models.command()
@click.argument("model_id", metavar="ID")
@click.option("--engine", default="", help="Engine of the entry; default: the first that runs the model.")
@click.pass_obj
def show(registry: Path | None, model_id: str, engine: str) -> None:
    """Print the entry of a job file's `models` for the model ID."""
    import yaml
    from harness_coordinator.jobfile import suggestion

    known = {model.id: model for model in _known(registry)}
    if model_id not in known:
        raise bad_input(f"no model is named {model_id!r}{suggestion(model_id, known)}")
    click.echo(yaml.safe_dump([known[model_id].job_entry(engine)], sort_keys=False), nl=False)


@models.command()
@format_option
def accelerators(output_format: str) -> None:
    """List the accelerators of the profiling paper (its table 8), with their makers' figures."""
    from harness_backends.models.registry import accelerators as known

    print_rows([entry.model_dump() for entry in known()], output_format)


@models.command()
@click.argument("source", metavar="FILE.gguf")
@click.argument("folder", type=click.Path(path_type=Path))
def convert(source: str, folder: Path) -> None:
    """Turn a GGUF file into a model FOLDER for vLLM and MLX: the same numbers, stored as bf16.

    FILE.gguf is a path, package:NAME/FILE or OWNER/REPO:FILE.
    """
    from harness_backends.engines.errors import EngineError, EngineUnavailableError
    from harness_backends.engines.model_files import find_model_file
    from harness_backends.models.gguf_to_folder import convert as write_folder

    try:
        size = write_folder(find_model_file(source), folder)
    except EngineUnavailableError as error:
        raise work_failed(str(error)) from None
    except (EngineError, FileExistsError) as error:
        raise bad_input(str(error)) from None
    except OSError as error:
        raise bad_input(f"{folder}: cannot be written: {error.strerror}") from None
    click.echo(f"{size / 1e6:.0f} MB of weights written to {folder}")


def _known(registry: Path | None) -> list[Any]:
    from harness_backends.models.registry import RegistryError, known_models

    try:
        return known_models(registry)
    except RegistryError as error:
        raise bad_input(str(error)) from None


def _row(model: Any) -> dict[str, Any]:
    from harness_backends.models.registry import presence

    found = presence(model.source)
    facts = found.facts or {}
    price = model.price
    return {
        "id": model.id,
        "engines": list(model.engines),
        "params_b": _billions(facts.get("parameters")) or model.params_b,
        "active_params_b": _billions(facts.get("active_parameters"))
        or model.active_params_b
        or model.params_b,
        "precision": facts.get("precision") or model.precision or None,
        "input_per_mtok": price.input_per_mtok if price else None,
        "output_per_mtok": price.output_per_mtok if price else None,
        "here": {"here": "yes", "absent": "no", "damaged": "damaged"}[found.state],
        "path": found.path or None,
        "reason": found.reason or None,
        "source": model.source,
        "note": model.note or None,
    }


def _billions(count: str | None) -> float | None:
    return None if count is None else int(count) / 1e9
