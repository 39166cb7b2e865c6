"""Who asks, from where: the spool, node and configuration of the person at the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from roundq.actors import submission
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.world import config
from roundq.world.config import Config
from roundq.world.node import Node


class Person(NamedTuple):
    """What every verb needs to know of its caller."""

    spool: Spool
    node: str
    config: Config


def person(environ: Mapping[str, str] | None = None) -> Person:
    """The caller. Raises SpoolError without a home, or if this node's name is taken by what is in a queue,
    ConfigError for a configuration that is not right."""
    environ = os.environ if environ is None else environ
    spool = submission.mine(environ)
    node = Node(environ).name()
    spools.check_node_name(node)
    return Person(spool, node, config.load(environ, os.path.dirname(spool.path), node=node))
