"""A Monte Carlo sweep: pi by throwing darts, for each number of darts with several seeds.

    rq sweep monte_carlo.py:Darts
    rq sweep --status monte_carlo.py:Darts
    rq gather monte_carlo.py:Darts -o pi.csv

Each parameter set is a job, on whatever node has room. What is done is not done again: add seeds, and only
these are run.
"""

from __future__ import annotations

import random

from roundq.sweep import Task, pset


class Darts(Task):
    """How many of so many darts hit the quarter of a circle."""

    sweep = pset("darts", [1_000, 50_000]) * pset("seed", range(4))

    def run(self) -> dict[str, float]:
        """The share of the hits is that of the quarter of a circle in its square."""
        chance = random.Random(self.params["seed"])
        darts = self.params["darts"]
        hits = sum(chance.random() ** 2 + chance.random() ** 2 < 1 for _ in range(darts))
        return {"pi": 4 * hits / darts}
