"""A nightly dump as a chain of jobs: dump, pack, check, and only then remove what is old.

    python dump_chain.py --begin 02:00 DATABASE DIRECTORY

Each step is a job that comes after the one before it. If one fails, what comes after it is canceled: an old
dump is never removed before there is a new one that can be unpacked. The program need not stay; with --wait
it does.
"""

from __future__ import annotations

import argparse
import sys
from datetime import datetime
from pathlib import Path

import roundq

#: So many dumps are kept.
KEPT = 3


def submit_chain(database: str, directory: Path, begin: str | None) -> list[roundq.Job]:
    """The jobs of the chain, in order, all of them in the set backup."""
    file = f"{database}.{datetime.now():%Y%m%d-%H%M%S}.sql"
    steps = {
        # Only a whole dump gets the name.
        "dump": 'pg_dump "$DATABASE" >"$FILE.part" && mv "$FILE.part" "$FILE"',
        "pack": 'gzip "$FILE"',
        "check": 'zcat "$FILE.gz" | tail -n 3 | grep -q "dump complete"',
        "prune": f'ls -t "$DATABASE".*.sql.gz | tail -n +{KEPT + 1} | xargs -r rm --',
    }
    queue = roundq.Queue()
    chain: list[roundq.Job] = []
    for step, script in steps.items():
        job = queue.submit(
            ["sh", "-c", script],
            name=f"{step}-{database}",
            directory=directory,
            env={"DATABASE": database, "FILE": file},
            set="backup",
            begin=begin if not chain else None,
            after=chain[-1:],
            # The server may be busy.
            retries=2 if step == "dump" else None,
        )
        chain.append(job)
    return chain


def main() -> int:
    """The exit code: 1 if a step that was waited for did not end well."""
    parser = argparse.ArgumentParser()
    parser.add_argument("database")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--begin")
    parser.add_argument("--wait", action="store_true")
    given = parser.parse_args()
    chain = submit_chain(given.database, given.directory.resolve(), given.begin)
    print("submitted", *(job.id for job in chain))
    if not given.wait:
        return 0
    for job in chain:
        try:
            job.result()
        except roundq.JobUnsuccessful as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
