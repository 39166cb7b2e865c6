"""Who asks, from where: the spool, node and configuration of the person at the command line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from roundq.actors import submission
from roundq.records import spool as spools
from roundq.records.spool import Spool
from roundq.words.errors import ConfigError
from roundq.world import config
from roundq.world.config import Config
from roundq.world.node import Node


class Person(NamedTuple):
    """What every verb needs to know of its caller."""

    spool: Spool
    node: str
    config: Config


def any_person(environ: Mapping[str, str] | None = None) -> Person:
    """The caller of what looks or ends something, which a wrong configuration must not hinder.

    It is warned of, and the standard holds instead, but no daemon is started. Raises SpoolError as `person`.
    """
    try:
        return person(environ)
    except ConfigError as error:
        from roundq.faces.cli import say

        say(f"warning: {error}; the standard holds instead", error.hint)
    spool, node = _who(os.environ if environ is None else environ)
    found = config.without_user(os.path.dirname(spool.path), node=node)
    return Person(spool, node, replace(found, auto_start=False))


def person(environ: Mapping[str, str] | None = None) -> Person:
    """The caller. Raises SpoolError without a home, or if this node's name is taken by what is in a queue,
    ConfigError for a configuration that is not right."""
    environ = os.environ if environ is None else environ
    spool, node = _who(environ)
    return Person(spool, node, config.load(environ, os.path.dirname(spool.path), node=node))


def _who(environ: Mapping[str, str]) -> tuple[Spool, str]:
    spool = submission.mine(environ)
    node = Node(environ).name()
    spools.check_node_name(node)
    return spool, node
