"""The command line: finds the verb, loads the one module it needs, and tells what went wrong.

A module of a group of verbs has two functions: `build_parser(verb) -> Parser`, and
`run(verb, options) -> int`, the exit code, which raises RoundqError for what a person should
read. Nothing else is imported here: `rq run` must print an id before a table library would be
loaded.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from roundq import __version__
from roundq.faces.cli.charset import charset
from roundq.faces.cli.stopping import (
    interrupted,
    interruptible,
    load_reader,
    look_for_signals,
    noted,
    stoppable,
)
from roundq.words.errors import RoundqError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from roundq.faces.cli.parser import Parser

#: Some of what was asked for could not be done, or a job that was waited for did not end well.
SOME_FAILED = 1
#: EX_SOFTWARE of sysexits.h: a mistake of ours.
INTERNAL_ERROR = 70
#: As a process that SIGPIPE killed, which is what other tools are when nobody reads them.
BROKEN_PIPE = 141


class Verb(NamedTuple):
    """A verb: the module of its group, and what it does in a few words."""

    module: str
    summary: str


#: In the order in which `rq help` lists them.
VERBS = {
    "run": Verb("run", "put a command into the queue"),
    "q": Verb("looking", "list the jobs of everybody (also: rq alone)"),
    "list": Verb("listed", "list all jobs of yours, or those that match"),
    "dump": Verb("dump", "print everything about jobs as JSON"),
    "show": Verb("telling", "tell everything about jobs"),
    "why": Verb("telling", "say why jobs wait, or how they ended"),
    "log": Verb("log", "print, or follow, the output of jobs"),
    "watch": Verb("watch", "print what jobs write while they run"),
    "wait": Verb("wait", "wait until jobs have ended"),
    "cancel": Verb("jobs", "cancel jobs of yours"),
    "restart": Verb("jobs", "stop running jobs and let them wait again"),
    "hold": Verb("holds", "keep jobs from starting"),
    "release": Verb("holds", "let jobs go that are on hold"),
    "rerun": Verb("holds", "run jobs again that have ended"),
    "retire": Verb("holds", "count failed jobs as settled"),
    "edit": Verb("edit", "change what jobs ask for that have not begun"),
    "pause": Verb("signals", "have running jobs stand still"),
    "cont": Verb("signals", "let paused jobs go on"),
    "signal": Verb("signals", "send a signal to running jobs"),
    "history": Verb("history", "list jobs that have ended, also long ago"),
    "report": Verb("report", "sum up what ended jobs used, and how long they waited"),
    "stats": Verb("stats", "tell what jobs used of what they asked for"),
    "lost": Verb("lost", "say that a node will not come back: its jobs go to others"),
    "drain": Verb("drains", "start nothing more of yours on a node"),
    "resume": Verb("drains", "let a drained node start jobs again"),
    "sweep": Verb("sweep", "run a task of Python for each of many parameter sets"),
    "gather": Verb("sweep", "print the results of a sweep as one table"),
    "sets": Verb("sets", "list your sets of jobs, each as a whole"),
    "limit": Verb("limit", "show your limits, or set them, also of a set or an array"),
    "nodes": Verb("looking", "list the nodes, and what is in use"),
    "users": Verb("looking", "list the users, and what they use"),
    "top": Verb("top", "show nodes, users and jobs on a live screen"),
    "daemon": Verb("daemon", "run your daemon on this node"),
    "worker": Verb("worker", "work off your queue here, in the foreground"),
    "dirjobs": Verb("dirjobs", "run a command for each file of a job directory"),
    "doctor": Verb("doctor", "check the home file system, the queue and this node"),
}
#: What else stands where a verb does.
_HELPERS = ("help", "version")
#: Options of `q` that may stand before a verb, as for 0.2.9; the value says whether a word follows.
_GLOBAL = {
    **dict.fromkeys(("-u", "--user"), True),
    **dict.fromkeys(("--mine", "--json", "-v", "--verbose", "--tasks"), False),
}
DEFAULT_VERB = "q"


def build_parser(verb: str) -> Parser:
    """The parser of a verb, whose options its manual page must have."""
    module = _module(verb)
    parser: Parser = module.build_parser(verb)
    return parser


def _module(verb: str) -> Any:
    """The module of a verb, loaded."""
    # Nothing that is loaded becomes garbage, and looking for it takes a twentieth of `rq run`.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(f"roundq.faces.cli.{VERBS[verb].module}")
    finally:
        if was_enabled:
            gc.enable()


def main(argv: list[str] | None = None) -> int:
    """Does what the words of a command say, and returns its exit code. Never raises."""
    _open_standard_streams()
    with contextlib.suppress(AttributeError, ValueError, OSError):
        # What cannot be encoded here is shown as its code rather than not at all. The type says that
        # it may be any text stream; one that cannot do this raises AttributeError.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=charset(), errors="backslashreplace")  # type: ignore[union-attr]
    try:
        try:
            code = _dispatch(sys.argv[1:] if argv is None else argv)
        except SystemExit as stop:
            # argparse ends -h and --version so.
            code = stop.code if isinstance(stop.code, int) else 0
        sys.stdout.flush()
        return code
    except RoundqError as error:
        return _complain(str(error), error.hint, error.exit_code, error.lines)
    except KeyboardInterrupt as stop:
        _give_up_reader()
        return _complain("interrupted", None, interrupted(stop))
    except BrokenPipeError:
        abandon(sys.stdout)
        return BROKEN_PIPE
    except Exception as error:
        return _unexpected(error)


def _open_standard_streams() -> None:
    """Opens what was closed: else the next file, such as a job's, would be the standard output."""
    if sys.stdin is not None and sys.stdout is not None and sys.stderr is not None:
        return
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one. Of standard output every use has to fail.
            os.open(os.devnull, os.O_RDONLY if number == 1 else os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)
    if sys.stderr is None:
        # Messages would go to standard output instead.
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)


def _dispatch(argv: list[str]) -> int:
    verb, words = _verb_of(argv)
    if verb in ("help", "-h", "--help"):
        return _help(words)
    if verb in ("version", "--version", "-V"):
        return _version()
    if verb not in VERBS:
        raise _unknown(verb)
    module = _module(verb)
    options = module.build_parser(verb).parse(words)
    # Daemons and workers catch their signals themselves.
    with contextlib.nullcontext() if verb in ("daemon", "worker") else stoppable():
        # Nothing that is submitted has to be read.
        if verb not in ("daemon", "worker", "run"):
            load_reader()
        code: int = module.run(verb, options)
        if noted() is None:
            # What was done is said before anything can end this process without a word.
            with interruptible():
                sys.stdout.flush()
        elif not code:
            look_for_signals()
    return code


def _verb_of(argv: list[str]) -> tuple[str, list[str]]:
    """The verb and its words; options of the list that stand before the verb go behind it."""
    place = 0
    while place < len(argv) and argv[place].startswith("-"):
        option = argv[place]
        if option in ("-h", "--help", "-V", "--version"):
            return option, argv[:place] + argv[place + 1 :]
        name = option.partition("=")[0]
        if name not in _GLOBAL and not option.startswith("-u"):
            # Let the list say what it thinks of it.
            return DEFAULT_VERB, argv
        place += 2 if _GLOBAL.get(option, False) else 1
    if place >= len(argv):
        return DEFAULT_VERB, argv
    return argv[place], argv[:place] + argv[place + 1 :]


def _unknown(verb: str) -> UsageError:
    from roundq.faces.cli.parser import shown, suggestion

    hint = suggestion(verb, [*VERBS, *_HELPERS])
    if hint is None:
        hint = f"did you mean rq show {verb}?" if verb.isdecimal() and verb.isascii() else "see: rq help"
    return UsageError(f"unknown command {shown(verb)}", hint)


def _help(words: list[str]) -> int:
    if words and words[0] in VERBS:
        print(build_parser(words[0]).format_help(), end="")
        return 0
    if words and words[0] not in _HELPERS and not words[0].startswith("-"):
        raise _unknown(words[0])
    width = max(map(len, VERBS))
    print("usage: rq [COMMAND] [OPTION...]\n")
    print("A job queue for people who share a few machines and one home file system.\n")
    for verb, (_, summary) in VERBS.items():
        print(f"  rq {verb:{width}}  {summary}")
    print(f"  rq {'version':{width}}  print the version")
    print("\nFor example:\n\n  rq run -J hello echo Hello\n  rq\n  rq log hello\n")
    print("rq COMMAND -h tells more, and so does the manual: man rq.")
    return 0


def _version() -> int:
    print(f"rq {__version__}")
    return 0


# ---------------------------------------------------------------- what went wrong


def say(what: str, hint: str | None = None, lines: Sequence[str] = ()) -> None:
    """A sentence on standard error, a hint, and lines below it. That it cannot be written, as on a terminal
    that was closed, stops nothing."""
    from roundq.words.quantities import visible

    try:
        print(f"rq: {visible(what)}", file=sys.stderr)
        if hint:
            print(f"hint: {visible(hint)}", file=sys.stderr)
        for line in lines:
            print(f"  {visible(line)}", file=sys.stderr)
    except (OSError, AttributeError, ValueError):
        # Else the interpreter tries again when it ends, and makes 120 of the exit code.
        abandon(sys.stderr)


def _complain(what: str, hint: str | None, code: int, lines: Sequence[str] = ()) -> int:
    # What was printed before belongs before it.
    if _output_error() is not None:
        # The interpreter would try again when it ends, and complain in its own words.
        abandon(sys.stdout)
    say(what, hint, lines)
    return code


def _give_up_reader() -> None:
    """Whoever is told to end does not wait for somebody who does not read."""
    import select

    with contextlib.suppress(OSError, AttributeError, ValueError):
        if not select.select([], [sys.stdout.fileno()], [], 0)[1]:
            abandon(sys.stdout)


def _output_error() -> OSError | None:
    """Why what was printed cannot be written, if it cannot: what is left of it says so again."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error
    except ValueError:
        # It was closed meanwhile: nothing is left of it.
        return None
    return None


def _is_of_output(error: OSError) -> bool:
    """Whether standard output caused this error, which names no file."""
    if error.filename is not None or error.errno is None:
        return False
    if _output_error() is not None:
        return True
    try:
        # Unbuffered, nothing is left to fail again: one more line does.
        os.write(sys.stdout.fileno(), b"\n")
    except OSError as again:
        return again.errno == error.errno
    return False


def abandon(stream: TextIO) -> None:
    """What is left to print goes nowhere: the interpreter would complain of it when it ends."""
    with contextlib.suppress(OSError, AttributeError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _unexpected(error: Exception) -> int:
    if os.environ.get("RQ_DEBUG") == "1":
        import traceback

        traceback.print_exception(error)
    if isinstance(error, OSError) and _is_of_output(error):
        abandon(sys.stdout)
        return _complain(f"standard output cannot be written: {error.strerror}", None, 1)
    if isinstance(error, OSError):
        # A file server or a disk that does not do what it should: not our mistake, but not explained either.
        what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        return _complain(f"the system refused: {what or error}", None, 1)
    return _complain(
        f"a mistake of rq itself: {type(error).__name__}: {error}",
        "set RQ_DEBUG=1 and try again to see where; please report it",
        INTERNAL_ERROR,
    )
