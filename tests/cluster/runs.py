"""What jobs wrote down themselves, see ledger: when each ran, where, and what it found there."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

#: The variables that tell a job its GPUs.
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")


@dataclass(frozen=True)
class Interval:
    """One run of a ledger job: from `start` to `end`, which is when it was last alive if it was killed.

    `cores` are those that it was submitted with, 0 for a whole node, `granted` those that it was told of,
    None if it was told nothing. `cpus` are those it may run on, `cpu_list` those of which it was told that
    they are its own; `devices` are the variables that tell of GPUs.
    """

    label: str
    node: str
    uid: int
    cores: int
    start: float
    end: float
    ended: bool
    exit_code: int | None = None
    job: str | None = None
    attempt: int | None = None
    mark: str | None = None
    granted: int | None = None
    cpus: frozenset[int] = frozenset()
    devices: Mapping[str, str] = field(default_factory=dict)
    cpu_list: str | None = None

    @property
    def gpus(self) -> tuple[str, ...]:
        """The ids of its GPUs; without a variable that tells of some, none."""
        said = next((self.devices[name] for name in GPU_VARIABLES if name in self.devices), "")
        return tuple(one for one in said.split(",") if one)

    @property
    def is_command(self) -> bool:
        """Whether it is the job's own command, and not what that left behind."""
        return "+" not in self.label

    def __str__(self) -> str:
        return f"{self.label} on {self.node} ({self.start:.3f} to {self.end:.3f}, cores {self.cores})"


def intervals(ledger: str) -> list[Interval]:
    """All runs of ledger jobs, by their start."""
    runs = []
    for name in sorted(os.listdir(ledger)):
        with open(os.path.join(ledger, name)) as f:
            lines = [json.loads(line) for line in f if line.endswith("\n")]
        if lines:
            first, last = lines[0], lines[-1]
            run = Interval(
                first["label"],
                first["node"],
                first["uid"],
                first["cores"],
                first["at"],
                last["at"],
                last["event"] == "end",
                last.get("exit_code"),
                first.get("job"),
                first.get("attempt"),
                first.get("mark"),
                first.get("granted"),
                frozenset(first.get("cpus", ())),
                first.get("devices", {}),
                first.get("cpu_list"),
            )
            runs.append(run)
    return sorted(runs, key=lambda run: run.start)
