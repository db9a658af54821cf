"""`harness`: the command groups, the options every command reads, and what a failure looks like."""

from __future__ import annotations

import sys
import traceback

import click

from harness_cli.command_groups import GroupedCommands
from harness_cli.failure import EXIT_WORK_FAILED
from harness_cli.unforeseen import explain_unforeseen


@click.group(
    cls=GroupedCommands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--debug", is_flag=True, help="Show a traceback when something fails.")
@click.version_option(package_name="joule-harness", prog_name="harness")
def harness(debug: bool) -> None:
    """Joules per query for LLM inference: measured, bounded and conserved, on a fleet of mixed hardware."""


def main() -> None:
    """Run the command line.

    Exit codes: 0 done, 1 the work failed, 2 wrong input, 3 unreachable or not allowed, 130 interrupted.
    """
    debug = "--debug" in sys.argv
    try:
        # Without standalone mode click returns the code of an `Exit` instead of raising it.
        code = harness.main(standalone_mode=False)
        if isinstance(code, int) and code:
            sys.exit(code)
    except click.exceptions.Abort:
        click.echo("Interrupted.", err=True)
        sys.exit(130)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.UsageError as error:
        if debug:
            traceback.print_exc()
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        if debug:
            traceback.print_exc()
        click.echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    except Exception as error:  # noqa: BLE001 - the last resort: a defect must still be one plain sentence
        if debug:
            traceback.print_exc()
        if (failure := explain_unforeseen(error)) is not None:
            click.echo(failure.format_message(), err=True)
            sys.exit(failure.exit_code)
        if not debug:
            click.echo(
                f"Something unexpected failed: {type(error).__name__}: {error} (--debug shows where)",
                err=True,
            )
        sys.exit(EXIT_WORK_FAILED)


if __name__ == "__main__":
    main()
