"""docs/how-a-joule-is-made.md explains every flag that a row can carry."""

from __future__ import annotations

import re
from pathlib import Path

from harness_coordinator.energy.flags import MEANING
from harness_coordinator.live_energy import PROVISIONAL

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "how-a-joule-is-made.md").read_text(encoding="utf-8")


def test_every_flag_of_the_energy_code_is_in_the_table_word_for_word() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))
    assert {name: table.get(name) for name in MEANING} == dict(MEANING)
    assert PROVISIONAL in table
