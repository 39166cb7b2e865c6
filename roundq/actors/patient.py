"""Who is examined by `rq doctor`: home, queue, node and configuration, each looked up when it is needed.

So that one that cannot be had is the finding of the check that needs it first, and no other.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from roundq.actors import submission
from roundq.actors.probes import Bench
from roundq.records import pings
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.world import config
from roundq.world.config import Config
from roundq.world.node import Node


@dataclass
class Patient:
    """One user on one node.

    `ping` is the token that is left for other nodes, `say` tells how far a long check is; `root` stands
    before what is read of the machine, for tests; `fixes` is whether what can be mended is to be.
    """

    environ: Mapping[str, str]
    ping: str = field(default_factory=pings.token)
    say: Callable[[str], None] = lambda _: None
    root: str = ""
    fixes: bool = False

    @functools.cached_property
    def spool(self) -> Spool:
        """The queue, which need not be there. Raises SpoolError without a home."""
        return submission.mine(self.environ)

    @property
    def home(self) -> str:
        """The home directory."""
        return os.path.dirname(self.spool.path)

    @functools.cached_property
    def node(self) -> str:
        """The name of this node. Raises RoundqError if no file can be called so."""
        name = Node(self.environ).name()
        spools.check_node_name(name)
        return name

    @functools.cached_property
    def config(self) -> Config:
        """The configuration. Raises ConfigError if a value is not allowed."""
        return config.load(self.environ, self.home, node=self.node)

    @property
    def bench(self) -> Bench:
        """Where probes write."""
        return Bench(self.spool, self.node)
