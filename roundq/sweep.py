"""Parameter sweeps: one task for each of many parameter sets, run by the queue; see SWEEP in roundq(3).

from roundq.sweep import Task, pset

class Fit(Task):
    sweep = pset("lr", [0.1, 0.01]) * pset("seed", range(10))

    def run(self):
        return {"loss": self.params["lr"] * self.params["seed"]}
"""

from __future__ import annotations

from roundq.faces.api.sweep import State, Sweep, Task, load
from roundq.faces.api.sweep_source import SourceError
from roundq.words.psets import ParameterSet, integers, ls, pset, spaced, uniform

__all__ = [
    "ParameterSet",
    "SourceError",
    "State",
    "Sweep",
    "Task",
    "integers",
    "load",
    "ls",
    "pset",
    "spaced",
    "uniform",
]
