"""Eve: another user on this node, whose cards and files say what she likes, under her real uid."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.job import Identity
from roundq.words.record_format import identity_dict
from roundq.world import procs

EVE = 40_003


class Eve:
    """Her home below a parent, her processes, and her card of one node."""

    def __init__(self, parent: Path, node: str, uid: int = EVE, name: str = "eve") -> None:
        self.node, self.uid = node, uid
        self.home = parent / name
        self.home.mkdir()
        self.spool = Spool(f"{self.home}/{spools.DIRECTORY}", name, uid)
        Path(self.spool.path).mkdir()
        for state in ("waiting", "running", "claimed", "completed"):
            Path(self.spool.path, state).mkdir()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.beat = 0
        self.own()

    def own(self) -> None:
        """All that is in her home belongs to her."""
        for directory, names, files in os.walk(self.home):
            for name in ("", *names, *files):
                os.chown(os.path.join(directory, name), self.uid, self.uid, follow_symlinks=False)

    def process(self) -> Identity:
        """A process of hers that lives until `stop`."""
        process = subprocess.Popen(["sleep", "1000"], user=self.uid, group=self.uid, extra_groups=())
        self.processes.append(process)
        found = procs.identity(process.pid)
        assert found is not None
        return found

    def stop(self) -> None:
        """None of her processes lives."""
        for process in self.processes:
            process.kill()
            process.wait()

    def job(self, number: int, process: Identity | None, *, cores: int = 1, **fields: Any) -> dict[str, Any]:
        """A running job for a card."""
        known = {"memory": 0, "exclusive": False, "stamp": 1, "settled": True, "since": {"secs": 1}}
        said = {"id": f"{number}", "state": "running", "cores": cores, "name": "x", **known, **fields}
        return {**said, "process": identity_dict(process)}

    def head(self, cores: int = 1, **fields: Any) -> dict[str, Any]:
        """A waiting job for a card: the earliest of all."""
        return {"id": "1", "cores": cores, "memory": 0, "submitted": {"secs": 0}, "waited": 1e300, **fields}

    def card(self, daemon: Identity | None, **ours: Any) -> None:
        """Publishes a card that says this."""
        self.beat += 1
        known = {"version": "1.0", "beat": self.beat, "cores": 4, "memory": 1 << 40, "jobs": [], "heads": []}
        self.raw(
            {
                "hostname": self.node,
                "pid": daemon.pid if daemon else 0,
                "physical_cores": 4,
                "logical_cpus": 4,
                "roundq": {**known, "process": identity_dict(daemon), **ours},
            }
        )

    def raw(self, value: object) -> None:
        """Publishes this as her card."""
        path = Path(self.spool.path, "tmp-card")
        path.write_text(json.dumps(value))
        os.chown(path, self.uid, self.uid)
        os.rename(path, f"{self.spool.path}/{self.node}")
