"""The verb `daemon`: three ways to run this user's daemon on this node, and one to end it."""

from __future__ import annotations

import argparse
import os

from roundq.faces.cli import say
from roundq.faces.cli.parser import Parser
from roundq.faces.cli.person import Person, any_person, person
from roundq.faces.cli.stopping import hold, interrupted, noted, stoppable
from roundq.words.errors import RoundqError


def build_parser(verb: str) -> Parser:
    """The parser of `daemon`."""
    parser = Parser(
        verb,
        "[--foreground | --fg | --stop] [-v]",
        "Run your daemon on this node, in the background unless told otherwise. It starts your jobs when it"
        " is your turn, and takes over from an older daemon; running jobs do not notice.",
        "rq daemon",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--foreground", action="store_true", help="serve here until stopped, as a service manager wants it"
    )
    how.add_argument("--fg", action="store_true", help="start what may start now, then exit")
    how.add_argument(
        "--stop", action="store_true", help="make your daemon on this node leave; running jobs go on"
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="with --fg or --foreground: say on standard error what is done and why",
    )
    return parser


def run(_verb: str, options: argparse.Namespace) -> int:
    """Runs the daemon; its exit code. Raises DaemonRunning or another RoundqError if it cannot begin."""
    # Looked at first, so that a wrong configuration is told here and not in a log.
    asker = any_person() if options.stop else person()
    if options.foreground:
        from roundq.actors import daemon

        _refuse_in_job()
        # It catches its signals itself.
        daemon.run_foreground(asker.spool, os.environ, verbose=options.verbose)
        return 0
    with stoppable():
        try:
            return (_stop if options.stop else _play if options.fg else _serve)(options, asker)
        except KeyboardInterrupt as stop:
            what = "may have been asked to leave" if options.stop else "may be starting"
            say(f"interrupted; your daemon on {asker.node} {what}", "rq nodes tells")
            return interrupted(stop)


def _stop(_: argparse.Namespace, asker: Person) -> int:
    from roundq.actors import daemon

    left = daemon.stop(asker.spool)
    print(f"no daemon of yours served {asker.node}" if left is None else f"your daemon on {asker.node} left")
    return 0


def _refuse_in_job() -> None:
    if "RQ_JOB_ID" in os.environ:
        raise RoundqError(
            "this is inside a job: a daemon would end with it, and so would all jobs that it starts",
            "run it from a shell on the node",
        )


def _play(options: argparse.Namespace, asker: Person) -> int:
    from roundq.actors import daemon

    _refuse_in_job()
    # What was begun is brought to its end: nobody comes after this process who would do it.
    hold()
    daemon.run_once(asker.spool, os.environ, verbose=options.verbose)
    if (stop := noted()) is not None:
        say("interrupted; what was started goes on")
        return interrupted(stop)
    return 0


def _serve(_: argparse.Namespace, asker: Person) -> int:
    from roundq.actors import daemon

    _refuse_in_job()
    daemon.detach(asker.spool, os.environ)
    holder = daemon.serving(asker.spool)
    if holder is not None:
        print(f"your daemon serves {asker.node} (process {holder.pid})", flush=True)
    return 0
