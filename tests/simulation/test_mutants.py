"""The simulation has teeth: whoever breaks the protocol in one of these ways is caught."""

from __future__ import annotations

import pytest

from tests.simulation.test_simulation import start

#: Seeds that a mistake may survive.
SEEDS = 500
#: Where to begin, so that the tests are short: a mistake that needs a rare coincidence is caught late.
FIRST = {
    "skip-verify": 140,
    "look-before-publishing": 140,
    "keep-taken-cpus": 550,
    "forget-limits": 1575,
    "trust-enoent": 130,
    "seize-sealed": 2010,
    "outlive-lease": 50,
    "presume-dead": 1600,
    "cancel-writes-behind": 30,
    "mend-the-living": 70,
    "edit-lets-go": 50,
}
#: Those of mutants.MUTANTS; not imported, since that module changes what it imports.
NAMES = (
    "skip-verify look-before-publishing keep-taken-cpus forget-limits count-ids skip-gate begin-late"
    " trust-enoent trust-errors write-after-losing move-first skip-fsync presume-dead judge-other-nodes"
    " judge-unread cancel-running seize-sealed restart-any preempt-any-job preempt-again notice-again"
    " outlive-lease cancel-writes-behind mend-the-living edit-lets-go"
).split()


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_protocol_is_caught(name: str) -> None:
    """Within a bounded number of seeds, and with the command that shows it again."""
    first = FIRST.get(name, 0)
    player = start("--mutant", name, "--seeds", f"{first}-{first + SEEDS - 1}")
    said = player.communicate()[0]

    assert player.returncode == 1, said[-2000:]
    assert f"again: python -m tests.simulation --mutant {name} --seed " in said
