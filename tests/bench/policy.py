"""What the policy is worth: run it with `python -m tests.bench.policy --seeds 1-3 --scenario wide`.

Plays workloads (`workload`) from event to event (`play`) by four rules side by side: plain FIFO, FIFO with
first fit, that of 0.2.9 (`rules`), and ours (`ours`), which is the real `policy.decide` asked by each user's
daemon on each node. Prints a table of figures (`figures` says what they are) for each scenario, averaged over
its seeds, and below it each seed in which ours falls behind: in fairness, in the waits of wide jobs, or by
more than 2 % in used cores. At every event a judge with a count of its own holds that nothing is promised
twice. A scenario and a seed are always the same workload. `--json` prints the figures of each play, a line
for each.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.bench.figures import TITLES, Figures, Ledger, mean_of, written
from tests.bench.ours import Ours
from tests.bench.play import Cluster, Judge, Rule
from tests.bench.rules import Fifo, FirstFit, Old
from tests.bench.workload import SCENARIOS, Workload, draw, scenario

RULES: dict[str, Callable[[random.Random], Rule]] = {rule.name: rule for rule in (Fifo, FirstFit, Old, Ours)}
#: What ours promises to be best or equal in, and how much behind the best still counts as equal: of used
#: cores it is the promise, of the others what chance alone makes of the same rule.
PROMISED = {"fairness": 0.01, "wide_95": 0.05, "wide_longest": 0.05, "starved": 0.05, "used": 0.02}


def play(workload: Workload, rule: Rule) -> Figures:
    """The figures of the workload by that rule. Raises `AssertionError` if anything is promised twice."""
    ledger, judge = Ledger(workload), Judge(workload)
    Cluster(workload, [ledger, judge]).play(rule)
    judge.check()
    assert sum(map(len, ledger.waits.values())) <= len(workload.jobs)
    return ledger.figures()


def behind(plays: dict[str, Figures], ours: str = Ours.name) -> dict[str, str]:
    """The promised figures in which ours is behind, with the rule that is best in it."""
    found = {}
    for name, slack in PROMISED.items():
        is_more_better = TITLES[name][1]
        best = (max if is_more_better else min)(plays, key=lambda rule: getattr(plays[rule], name))
        mine, its = getattr(plays[ours], name), getattr(plays[best], name)
        if mine < its * (1 - slack) if is_more_better else mine > its * (1 + slack) + 1.0:
            found[name] = best
    return found


def table(title: str, plays: dict[str, Figures]) -> Table:
    """A line for each figure, a column for each rule; the best of each line stands out."""
    shown = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False)
    shown.add_column("")
    for rule in plays:
        shown.add_column(rule, justify="right", no_wrap=True)
    for name, (label, is_more_better, _) in TITLES.items():
        cells = {rule: written(name, getattr(figures, name)) for rule, figures in plays.items()}
        values = [getattr(figures, name) for figures in plays.values()]
        best = written(name, max(values) if is_more_better else min(values))
        shown.add_row(label, *(f"[bold]{cell}[/]" if cell == best else cell for cell in cells.values()))
    return shown


def main(words: Sequence[str] | None = None) -> None:
    """Plays what the words ask for, and prints it."""
    asked = _parser().parse_args(words)
    console = Console(width=None if sys.stdout.isatty() else 100, highlight=False)
    total: dict[str, list[Figures]] = {rule: [] for rule in asked.rules}
    for name in asked.scenario or SCENARIOS:
        began_s = time.monotonic()
        plays: dict[str, list[Figures]] = {rule: [] for rule in asked.rules}
        notes: list[str] = []
        for seed in asked.seeds:
            workload = draw(scenario(name, seed, asked.nodes, asked.users, asked.jobs), seed)
            for rule in asked.rules:
                figures = play(workload, RULES[rule](random.Random(seed)))
                plays[rule].append(figures)
                total[rule].append(figures)
                if asked.json:
                    print(json.dumps({"scenario": name, "seed": seed, "rule": rule, **asdict(figures)}))
            latest = {rule: each[-1] for rule, each in plays.items()}
            notes += _notes(seed, latest) if Ours.name in latest else []
        if not asked.json:
            says = f"{name}: {SCENARIOS[name].says}"
            seeds = f"seeds {asked.seeds[0]}-{asked.seeds[-1]}, {time.monotonic() - began_s:.0f} s"
            console.print(table(f"{says} ({seeds})", {rule: mean_of(each) for rule, each in plays.items()}))
            for note in notes:
                console.print(note)
            sys.stdout.flush()
    if not asked.json and len(asked.scenario or SCENARIOS) > 1:
        console.print(table("all of these", {rule: mean_of(each) for rule, each in total.items()}))


def _notes(seed: int, plays: dict[str, Figures]) -> Iterable[str]:
    for name, best in behind(plays).items():
        ours, its = (written(name, getattr(plays[rule], name)) for rule in (Ours.name, best))
        yield f"behind in seed {seed}: {TITLES[name][0]} {ours}, {best} {its}"


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.bench.policy", description="What the policy is worth.")
    parser.add_argument(
        "--seeds", type=_seeds, default=range(1, 2), metavar="A-B", help="of the workloads (1)"
    )
    parser.add_argument(
        "--scenario", action="append", choices=SCENARIOS, help="one of them, may be given again (all)"
    )
    parser.add_argument("--nodes", type=int, help="instead of the scenario's; the jobs grow with them")
    parser.add_argument("--users", type=int, help="instead of the scenario's")
    parser.add_argument("--jobs", type=int, help="instead of the scenario's")
    parser.add_argument("--rules", type=lambda text: text.split(","), default=[*RULES], help="some of them")
    parser.add_argument("--json", action="store_true", help="a line for each play instead of tables")
    return parser


if __name__ == "__main__":
    main()
