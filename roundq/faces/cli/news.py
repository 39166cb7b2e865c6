"""What --on-end and --mail of `run` ask for: that somebody is told when what was submitted has ended."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence

from roundq.faces.cli.person import Person
from roundq.words.errors import RoundqError, UsageError
from roundq.words.job import Job


def check(options: argparse.Namespace, asker: Person) -> list[str]:
    """What to warn of before anything is submitted. Raises UsageError for too many addresses."""
    from roundq.words.news import MAILS_MAX

    if len(options.mail) > MAILS_MAX:
        raise UsageError(
            f"option --mail: {len(options.mail)} addresses are too many", f"give at most {MAILS_MAX}"
        )
    sendmail = asker.config.sendmail
    if options.mail and not os.access(sendmail, os.X_OK):
        return [
            f"{sendmail} cannot be run on this node, and without it a node sends no mail: see roundq.toml(5)"
        ]
    return []


def ask(
    options: argparse.Namespace,
    asker: Person,
    environ: Mapping[str, str],
    jobs: Sequence[Job],
    ids: Sequence[str],
    tasks: int,
) -> RoundqError | None:
    """Asks for it, of what was just submitted: of an array of so many `tasks` once, of a set once.

    What was submitted is; so that nobody will be told is an error that is returned.
    """
    if not options.on_end and not options.mail:
        return None
    from roundq.actors.environ import submitted
    from roundq.records import environments
    from roundq.records import news as records
    from roundq.words.groups import MARK
    from roundq.words.news import News

    told = [(f"{MARK}{options.set}", jobs[0])] if options.set else list(zip(ids, jobs, strict=True))
    try:
        environment = environments.store(asker.spool, submitted(environ), asker.node)
        for of, job in told:
            news = News(
                of,
                0 if options.set else tasks,
                job.name,
                tuple(options.on_end or ()),
                tuple(options.mail),
                job.directory,
                environment,
            )
            records.ask(asker.spool, news, asker.node)
    except (OSError, RoundqError) as error:
        hint = error.hint if isinstance(error, RoundqError) else None
        return RoundqError(f"nobody will be told when it has ended: {error}", hint)
    return None
