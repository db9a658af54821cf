"""Labels of a machine, as people give them."""

from __future__ import annotations

from harness_cli.failure import bad_input


def parse_labels(given: tuple[str, ...]) -> dict[str, str]:
    """Return labels given as KEY=VALUE.

    Raises:
        Failure: one has no `=` or no key.
    """
    labels: dict[str, str] = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not key.strip():
            raise bad_input(f"--label takes KEY=VALUE, not {item!r}")
        labels[key.strip()] = value.strip()
    return labels
