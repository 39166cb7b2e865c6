"""What is looked at before a job is accepted: could it ever run?

Called by `actors.queue.check`. Asks as the submitter, on the submitter's node: the
supervisor looks again when the job begins, and what it finds then is what counts. So
only what is certain refuses a job; what depends on nodes is a warning, which `misfit` finds.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping

from roundq.words import job as jobs
from roundq.words import record_format as formats
from roundq.words.errors import CommandNotFound, JobRefused, NotExecutable
from roundq.words.job import Job, Record
from roundq.world import files

#: A file name on every usual file system.
NAME_BYTES_MAX = 255
#: Names that are compared to find one that may have been meant.
_NAMES_MOST = 20_000
_DANGLING = "it is a symbolic link to nothing"
#: Interpreters that people forget, by the ending of the script.
_INTERPRETERS = {
    ".py": "python3",
    ".sh": "sh",
    ".bash": "bash",
    ".R": "Rscript",
    ".jl": "julia",
    ".pl": "perl",
}


def shown(text: str) -> str:
    """A word as messages show it: quoted, harmless on a terminal, not by the page."""
    if not text.isprintable():
        from roundq.words.quantities import visible

        text = visible(text)
    return f'"{text[:100]}…"' if len(text) > 101 else f'"{text}"'


# ---------------------------------------------------------------- the command


def check_command(job: Job, environ: Mapping[str, str]) -> None:
    """Raises CommandNotFound or NotExecutable unless this user may execute the command of the job.

    As execvp(3) looks for it: a word with / relative to the job's directory, any other along PATH.
    """
    word = job.command[0]
    if "/" in word:
        places = [os.path.dirname(word)]
        path = os.path.join(job.directory, word)
        refusal = _refusal(path)
        if refusal is None:
            return
        if refusal == _DANGLING:
            raise CommandNotFound(f"no such command: {shown(word)}: {_DANGLING}")
        if refusal:
            raise NotExecutable(f"cannot execute {shown(word)}: {refusal}", _remedy(word, path))
    else:
        places = environ.get("PATH", os.defpath).split(":")
        found: tuple[str, str] | None = None
        for place in places:
            path = os.path.join(job.directory, place, word)
            refusal = _refusal(path) if word else ""
            if refusal is None:
                return
            # What is there but may not be executed does not end the search; it is said if nothing is better.
            if refusal not in ("", _DANGLING) and found is None and not os.path.isdir(path):
                found = path, refusal
        if found is not None:
            raise NotExecutable(f"cannot execute {shown(found[0])}: {found[1]}", _remedy(word, found[0]))
    raise CommandNotFound(f"no such command: {shown(word)}", _suggestion(job.directory, word, places))


def _refusal(path: str) -> str | None:
    """Why this user may not execute a path: None if it may, "" if there is nothing."""
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return _DANGLING if os.path.islink(path) else ""
        return error.strerror or str(error)
    if stat.S_ISDIR(mode):
        return "it is a directory"
    if not stat.S_ISREG(mode):
        return "it is not a regular file"
    # Asked of the server, which knows lists of rights and squashed identities; never of one bit.
    if not os.access(path, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        return "permission denied"
    return None


def _remedy(word: str, path: str) -> str | None:
    interpreter = _INTERPRETERS.get(os.path.splitext(path)[1])
    if not os.path.isfile(path):
        return None
    if interpreter:
        return f"run it with its interpreter: rq run {interpreter} {_plain(word)}"
    return f"if it is a program: chmod +x {_plain(word if '/' in word else path)}"


def _plain(word: str) -> str:
    """A word as a person would type it in a shell."""
    import shlex

    from roundq.words.quantities import visible

    return visible(shlex.quote(word))


def _suggestion(directory: str, word: str, places: Iterable[str]) -> str | None:
    """A hint that names a command which may have been meant."""
    import difflib

    if not word:
        return "give a command after the options: rq run sleep 10"
    if "/" not in word and os.path.lexists(path := os.path.join(directory, word)):
        remedy = None if _refusal(path) is None else _remedy(f"./{word}", path)
        return remedy or f"it is not along PATH, but here: rq run ./{_plain(word)}"
    if " " in word:
        return f"the command and its arguments are words of their own: rq run {word.partition(' ')[0]} ..."
    names: list[str] = []
    for place in places:
        try:
            names.extend(os.listdir(os.path.join(directory, place) or "/"))
        except OSError:
            continue
        if len(names) > _NAMES_MOST:
            break
    near = difflib.get_close_matches(os.path.basename(word), names, n=1, cutoff=0.75)
    if not near:
        return None
    meant = os.path.join(os.path.dirname(word), near[0]) if "/" in word else near[0]
    return f"did you mean {shown(meant)}?"


# ---------------------------------------------------------------- directory and output


def check_directory(job: Job) -> None:
    """Raises JobRefused unless the job's directory is one and may be entered."""
    path = job.directory
    try:
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
    except OSError as error:
        raise JobRefused(
            f"directory {shown(path)} cannot be entered: {error.strerror}", "see --chdir"
        ) from None
    if not is_directory:
        raise JobRefused(f"{shown(path)} is not a directory", "see --chdir")
    if not _may(path, os.X_OK):
        raise JobRefused(f"directory {shown(path)} cannot be entered: permission denied", "see --chdir")


def _may(path: str, mode: int) -> bool:
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def check_output(job: Job, is_listed: Callable[[str], bool] | None = None) -> None:
    """Raises JobRefused unless the job's output and error files can be created, or written and have room.

    Creates nothing. Files named after the id, which is not known yet, are new ones. Who looks at many jobs
    gives an `is_listed` that remembers directories.
    """
    if not job.output:
        _check_new(job.directory, "the output file rq-ID.out")
    for kind, name in (("output", job.output), ("error", job.error)):
        if not name:
            continue
        what = f"{kind} file {shown(name)}"
        if "%" in name:
            from roundq.words import outputs

            known = outputs.filled(name, job, outputs.Facts("%j", "%u"))
            if not outputs.is_shared(name):
                # Its file is a new one, as a rule, and its directory may have to be made by then.
                if outputs.is_shared(os.path.dirname(name)):
                    _check_new(os.path.join(job.directory, os.path.dirname(known)), what)
                continue
            name = known
        path = os.path.join(job.directory, name)
        if len(os.fsencode(os.path.basename(name))) > NAME_BYTES_MAX:
            raise JobRefused(f"{what} cannot be created: its name has more than {NAME_BYTES_MAX} bytes")
        try:
            # Listed before it is asked for: on NFS, a name that was asked for in vain stays invisible to
            # this node for up to a minute, and another node is about to create this one.
            status = os.stat(path) if (is_listed or _is_listed)(path) else None
        except FileNotFoundError:
            # A link to a file that is not there yet.
            status = None
        except OSError as error:
            raise JobRefused(f"{what} cannot be written: {error.strerror}") from None
        if status is None:
            _check_new(os.path.dirname(path), what)
            continue
        if stat.S_ISDIR(status.st_mode):
            raise JobRefused(
                f"{what} cannot be written: it is a directory", f"name a file in it: --{kind} {name}/FILE"
            )
        if not _may(path, os.W_OK):
            raise JobRefused(f"{what} cannot be written: permission denied")
        if job.max_output and stat.S_ISREG(status.st_mode) and status.st_size >= job.max_output:
            from roundq.words.quantities import format_memory

            raise JobRefused(
                f"{what} has {format_memory(status.st_size)} already, and its limit is"
                f" {format_memory(job.max_output)}",
                f"remove it, choose another with --{kind}, or raise --max-output",
            )


def _is_listed(path: str) -> bool:
    try:
        return files.is_listed(path)
    except OSError:
        # It may be entered, but not read; or it is no directory, as the caller finds out.
        return os.path.lexists(path)


def remembering() -> Callable[[str], bool]:
    """The same for `check_output`, where each directory is listed once."""
    known: dict[str, frozenset[str] | None] = {}

    def is_listed(path: str) -> bool:
        directory, _, name = path.rpartition("/")
        if directory not in known:
            try:
                known[directory] = frozenset(entry.name for entry in files.listing(directory))
            except OSError:
                known[directory] = None
        names = known[directory]
        return os.path.lexists(path) if names is None else name in names

    return is_listed


def _check_new(directory: str, what: str) -> None:
    try:
        is_directory = stat.S_ISDIR(os.stat(directory).st_mode)
    except OSError as error:
        hint = f"mkdir -p {_plain(directory)}" if error.errno == errno.ENOENT else None
        raise JobRefused(
            f"{what} cannot be created: directory {shown(directory)}: {error.strerror}", hint
        ) from None
    if not is_directory:
        raise JobRefused(f"{what} cannot be created: {shown(directory)} is not a directory")
    if not _may(directory, os.W_OK | os.X_OK):
        raise JobRefused(
            f"{what} cannot be created: you may not write to directory {shown(directory)}",
            "choose another file with --output, or another directory with --chdir",
        )


def check_record(job: Job) -> None:
    """Raises JobRefused if the record of the job would be larger than what is read back."""
    size = len(formats.dump(Record(job)))
    # What becomes of it is written into it too.
    if size > formats.RECORD_BYTES_MAX - jobs.FACTS_BYTES_MAX:
        raise JobRefused(
            f"the command line is too long: its job file would have {size} bytes, more than"
            f" {formats.RECORD_BYTES_MAX - jobs.FACTS_BYTES_MAX}",
            "put the arguments into a file, or the command into a script",
        )
    if len(job.command) > 1 << 16:
        raise JobRefused(f"the command has {len(job.command)} words, more than {1 << 16}")
