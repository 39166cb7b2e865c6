"""Checks of the home file system: does it do what the queue needs, has it room, who may see and write what.

Called by `doctor`, in its helper process. Each check returns what it found; an OSError or RoundqError that
it raises is a finding, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable, Sequence

from roundq.actors import probes
from roundq.actors.patient import Patient
from roundq.actors.probes import Race
from roundq.records import commons, neighbours
from roundq.records import spool as spools
from roundq.words.errors import SpoolFull, SpoolUnsafe
from roundq.words.findings import Finding, ok, problem, warning
from roundq.words.quantities import format_memory, visible
from roundq.world import files, mounts, spawn
from roundq.world.helpers import Helpers
from roundq.world.mounts import Mount

#: A home that takes longer for one question makes every command slow.
SLOW_S = 1.0
#: Less room than this is told: an output has 1 MiB, a record some kilobytes.
ROOM_LEAST, ROOM_NONE = 256 << 20, 1 << 20
FILES_LEAST, FILES_NONE = 1000, 10
#: Clocks that differ by more confuse people: times in lists, order of submission.
CLOCK_S = 2.0
#: Names that are told; there may be hundreds.
NAMES_TOLD = 5

NETWORK_KINDS = frozenset(("nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "afs", "panfs", "orangefs"))
#: Cluster file systems that come as FUSE.
_GOOD_FUSE = frozenset(("fuse.ceph", "fuse.glusterfs", "fuse.ceph-fuse"))
_SMB_KINDS = frozenset(("cifs", "smb3", "smbfs"))
#: Gone when the node is rebooted.
_VOLATILE_KINDS = frozenset(("tmpfs", "ramfs"))
_ELSEWHERE = (
    "keep ~/.roundqueue on NFS or another file system with atomic renames (it may be a symbolic link), or set"
    " settle in roundq.toml(5)"
)
_MORE_ROOM = "free some space or raise the quota (see `quota -s`, `df -h ~`, `df -i ~`)"
#: An NFS client that believes for longer than this shows changes late, see nfs(5).
_CACHE_MOST_S = 60


# ---------------------------------------------------------------- the file system


def home(patient: Patient) -> list[Finding]:
    """The home answers, and what is configured there is right."""
    why = "every command and every daemon asks the home first"
    began_s = time.monotonic()
    os.stat(f"{patient.home}/.")
    took_s = time.monotonic() - began_s
    found = f"{patient.home} answers in {_seconds(took_s)}; this node is {patient.node}"
    # Wrong values are the finding of this check.
    _ = patient.config
    if took_s > SLOW_S:
        return [
            warning(
                "home",
                found,
                why,
                "see what keeps the file server or the network busy",
                facts={"seconds": took_s},
            )
        ]
    return [ok("home", found, why, facts={"seconds": took_s})]


def file_system(patient: Patient) -> list[Finding]:
    """What the queue is on, and how it is mounted."""
    path = os.path.realpath(patient.spool.path)
    return [judge_mount(mounts.mount_of(path, patient.root), is_settling=patient.config.settle_s > 0)]


def judge_mount(mount: Mount | None, *, is_settling: bool = False) -> Finding:
    """What is to be said of the file system of a queue; None if it could not be told which it is.

    `is_settling` says that claims are looked at until it is known who has them, see roundqueue(7), Settle.
    """
    check, why = "file system", "what it promises decides whether a job can run twice or be lost"
    if mount is None:
        return warning(check, "it cannot be told which one the queue is on", why, "see mount(8)")
    kind, facts = mount.kind, {"type": mount.kind, "source": mount.source, "mounted_on": mount.point}
    told = f"{kind} on {mount.point}, from {mount.source}{_telling_options(mount)}"
    if mount.option("ro") is not None:
        return problem(
            check, f"{told}: read-only", why, "have it mounted with rw: no job can be stored", facts=facts
        )
    if kind in ("nfs", "nfs4"):
        if mount.option("soft") is not None or mount.option("softerr") is not None:
            return warning(
                check,
                f"{told}: soft",
                "a server that is slow then makes writes fail, and data may be silently lost (nfs(5))",
                "have it mounted with hard, which is the default",
                facts=facts,
            )
        late = max((_number(mount, name) for name in ("actimeo", "acdirmax")), default=0)
        if late > _CACHE_MOST_S:
            return warning(
                check,
                f"{told}: directories may be remembered for {late} s",
                "other nodes see late what happens in the queue",
                "have it mounted with the default, acdirmax=60, or less",
                facts=facts,
            )
        return ok(check, told, why, facts=facts)
    is_loose = kind in _SMB_KINDS or kind == "davfs" or mount.source.startswith(("http://", "https://"))
    is_loose |= kind.partition(".")[0] == "fuse" and kind not in _GOOD_FUSE
    if is_loose and is_settling:
        return ok(check, f"{told}; claims settle, as they should here", why, facts=facts)
    if kind in _SMB_KINDS or kind == "davfs" or mount.source.startswith(("http://", "https://")):
        name = "SMB" if kind in _SMB_KINDS else "WebDAV"
        return warning(
            check,
            f"{told}: {name}",
            "two nodes may both succeed in renaming one file there, and so run one job twice",
            _ELSEWHERE,
            facts=facts,
        )
    if kind.partition(".")[0] == "fuse" and kind not in _GOOD_FUSE:
        return warning(
            check,
            f"{told}: FUSE",
            "a program serves it, and nobody knows what that does when two nodes rename one file",
            _ELSEWHERE,
            facts=facts,
        )
    if kind in _VOLATILE_KINDS:
        return warning(
            check,
            f"{told}: in memory",
            "all jobs are gone when this node is rebooted",
            "keep ~/.roundqueue on a disk: it may be a symbolic link",
            facts=facts,
        )
    shared = "" if kind in NETWORK_KINDS or kind in _GOOD_FUSE else ", this node's own as it seems"
    return ok(check, told + shared, why, facts=facts)


def _telling_options(mount: Mount) -> str:
    names = ("vers", "hard", "soft", "softerr", "noac", "lookupcache", "actimeo", "acdirmax", "nolock", "sec")
    said = [
        f"{name}={value}" if value else name for name in names if (value := mount.option(name)) is not None
    ]
    return f" ({', '.join(said)})" if said else ""


def _number(mount: Mount, name: str) -> int:
    value = mount.option(name) or ""
    return int(value) if value.isdecimal() and len(value) < 10 else 0


# ---------------------------------------------------------------- the queue and who may write there


def queue(patient: Patient) -> list[Finding]:
    """The queue is there, is the user's own, in one file system; others may look into it."""
    spool = patient.spool
    is_new = not os.path.lexists(spool.path)
    spools.prepare(spool)
    spools.check(spool)
    found = []
    of_home, of_spool = os.stat(patient.home), os.stat(spool.path)
    mode = stat.S_IMODE(of_home.st_mode)
    # A group of the user's own number is his alone, as umask 002 has it.
    if mode & (0o002 if of_home.st_gid == of_home.st_uid else 0o022):
        found.append(
            problem(
                "queue",
                f"others may write to {patient.home} (mode {mode:04o})",
                "whoever may can put a queue of his own in the place of yours, whose jobs run as you",
                f"chmod go-w {patient.home}",
                SpoolUnsafe,
                facts={"home_mode": f"{mode:04o}"},
            )
        )
    is_closed = not mode & 0o001 or of_spool.st_mode & 0o005 != 0o005
    # With a commons a home may stay closed: others count what its cards tell there.
    if is_closed and not patient.config.commons:
        path = patient.home if not mode & 0o001 else spool.path
        found.append(
            warning(
                "queue",
                f"others cannot look into {path} (mode {stat.S_IMODE(os.stat(path).st_mode):04o})",
                "their daemons cannot count your jobs, a node may be overbooked, and your turn is not seen",
                f"chmod o+x {path}" if path == patient.home else f"chmod o+rx {path}",
                facts={"home_mode": f"{mode:04o}"},
            )
        )
    made = "made" if is_new else "yours"
    return found or [
        ok(
            "queue",
            f"{spool.path} is {made}, on one file system, writable by nobody else"
            + ("; closed to others, who see your cards in the commons" if is_closed else ""),
            "whoever can write there can run commands as you",
            facts={"home_mode": f"{mode:04o}"},
        )
    ]


def other_users(patient: Patient) -> list[Finding]:
    """Whose queues can be seen."""
    check, why = "other users", "whose jobs cannot be seen is not counted, so a node may be overbooked"
    parents = patient.config.homes
    # A home of another user may never answer.
    with contextlib.closing(Helpers(time.monotonic)) as helpers:
        seen = neighbours.homes(parents, me=patient.spool, helpers=helpers)
        hidden = neighbours.hidden(parents, helpers)
        late = [os.path.basename(home) for home in helpers.late()]
        # Those who are in the commons are seen there.
        at = patient.config.commons
        there = commons.everybody(at, (), helpers)[0] if at else []
    facts = {"seen": len(seen), "hidden": len(hidden), "not_answering": len(late)}
    who = "user has a queue" if len(seen) == 1 else "users have queues"
    told = f"{len(seen)} other {who} below {', '.join(parents)}"
    found = []
    if late:
        remedy = "see whether the file servers of these homes are up"
        found.append(warning(check, f"homes that do not answer: {some(late)}", why, remedy, facts=facts))
    if hidden and there:
        beside = len(commons.beside(seen, there, patient.spool.uid))
        told += f"; {len(hidden)} closed to you, {beside} seen in the commons"
    elif hidden:
        remedy = "ask them for chmod o+x of their homes, or the administrator for a commons: roundqd(8)"
        found.append(warning(check, f"{told}; closed to you: {some(hidden)}", why, remedy, facts=facts))
    return found or [ok(check, told, why, facts=facts)]


# ---------------------------------------------------------------- what it does


def writing(patient: Patient) -> list[Finding]:
    """A file can be written and made durable, and so can its name."""
    why = "a job whose id was printed must survive a crash"
    with files.explained(f"write to {patient.bench.directory}"):
        took = probes.sync(patient.bench)
    facts = {"file_s": took.file_s, "directory_s": took.directory_s}
    if took.directory_s is None:
        return [
            warning(
                "writing",
                f"a file is durable after {_seconds(took.file_s)}, but directories cannot be synced here",
                why,
                "keep ~/.roundqueue on another file system, if the server does not sync them itself",
                facts=facts,
            )
        ]
    both_s = took.file_s + took.directory_s
    told = f"a new file and its name are durable after {_seconds(both_s)}"
    if both_s > SLOW_S:
        return [
            warning(
                "writing",
                told,
                "each submission waits for it",
                "see what the server is busy with",
                facts=facts,
            )
        ]
    return [ok("writing", told, why, facts=facts)]


def creating(patient: Patient) -> list[Finding]:
    """O_EXCL lets one of several create a file."""
    race, did = probes.create_race(patient.bench), "created one file with O_EXCL"
    why = "new files get names by chance that nobody else has; this keeps two from being taken for one"
    return [judge_race("creating", race, did, why, warning)]


def linking(patient: Patient) -> list[Finding]:
    """link(2) never replaces, and counts."""
    race = probes.link_race(patient.bench)
    why = "programs that drop job files may rely on it; rq itself does without"
    if race.errors and set(race.errors) <= files.NO_LINKS and race.lost == race.rounds:
        remedy = "let such programs rename their files into waiting/, see roundqueue(7)"
        return [warning("linking", f"there are no hard links here: {_errors(race)}", why, remedy)]
    if race.counts:
        told = f"the link count of a file with two names was wrong in {race.counts} of {race.rounds} rounds"
        facts = {"rounds": race.rounds, "wrong_counts": race.counts}
        return [warning("linking", told, why, "let such programs not rely on the link count", facts)]
    return [judge_race("linking", race, "linked files of theirs to one name", why, warning)]


def renaming(patient: Patient) -> list[Finding]:
    """Of several renames of one file one succeeds."""
    why = "the claim of a job is a rename: with two winners the job runs twice"
    return [judge_race("renaming", probes.rename_race(patient.bench), "renamed one file", why, problem)]


def judge_race(check: str, race: Race, did: str, why: str, if_broken: Callable[..., Finding]) -> Finding:
    """What is to be said of a race; `if_broken` is how bad it is that it had not one winner each time."""
    facts = {
        "rounds": race.rounds,
        "two_winners": race.doubled,
        "no_winner": race.lost,
        "untold_winners": race.unsaid,
    }
    told = f"{probes.RACERS} processes of this node {did}, {race.rounds} times"
    errors = f": {_errors(race)}" if race.errors else ""
    if race.doubled:
        return if_broken(check, f"{told}: two had it in {race.doubled} of them", why, _ELSEWHERE, facts=facts)
    if race.lost:
        lost = f"{told}: nobody had it in {race.lost} of them{errors}"
        return if_broken(check, lost, why, _ELSEWHERE, facts=facts)
    if race.errors:
        told = f"{told}: one had it each time, but there were errors{errors}"
        return warning(check, told, why, "see dmesg, and whether the server is well", facts=facts)
    unsaid = f" ({race.unsaid} of the winners were told an error)" if race.unsaid else ""
    return ok(check, f"{told}: one had it each time{unsaid}", why, facts=facts)


def _errors(race: Race) -> str:
    return ", ".join(f"{os.strerror(number)} ({count})" for number, count in sorted(race.errors.items()))


def replacing(patient: Patient) -> list[Finding]:
    """A file that is replaced is there, and whole, for whoever reads it meanwhile."""
    why = "cards and records are replaced while others read them"
    seen = probes.replace_watched(patient.bench)
    facts = {"reads": seen.reads, "missing": seen.missing, "torn": seen.torn}
    told = f"read {seen.reads} times while it was replaced, a file was"
    if seen.missing or seen.torn:
        return [
            problem(
                "replacing",
                f"{told} absent {seen.missing} times and torn {seen.torn} times",
                why,
                "keep ~/.roundqueue on another file system",
                facts=facts,
            )
        ]
    return [ok("replacing", f"{told} whole each time", why, facts=facts)]


# ---------------------------------------------------------------- room and time


def space(patient: Patient) -> list[Finding]:
    """Room and inodes, as far as the file system tells."""
    path = patient.spool.path if os.path.isdir(patient.spool.path) else patient.home
    try:
        told = os.statvfs(path)
    except OSError as error:
        why, remedy = "a job cannot be submitted where there is no room", "see `df -h ~` and `quota -s`"
        return [warning("space", f"it cannot be told how much is left: {error.strerror}", why, remedy)]
    return [judge_room("space", told.f_bavail * told.f_frsize, told.f_favail if told.f_files else None, path)]


def judge_room(check: str, room: int, inodes: int | None, path: str) -> Finding:
    """What is to be said of so many bytes and inodes that are left; None: there is no such limit."""
    why = "a job cannot be submitted, nor its end recorded, where there is no room"
    remedy = _MORE_ROOM
    said = (
        f"{format_memory(room)} left" + ("" if inodes is None else f", and {inodes:,} files") + f" at {path}"
    )
    facts = {"bytes": room, "files": inodes}
    if room < ROOM_NONE or (inodes is not None and inodes < FILES_NONE):
        return problem(check, said, why, remedy, SpoolFull, facts=facts)
    if room < ROOM_LEAST or (inodes is not None and inodes < FILES_LEAST):
        return warning(check, said, why, remedy, facts=facts)
    return ok(check, said, why, facts=facts)


def quota(patient: Patient) -> list[Finding]:
    """What quota(1) says is left of a disk of this node, where there is such a program.

    Of NFS it would ask the server over the internet, which no process of ours causes; there `space` often
    shows the quota.
    """
    mount = mounts.mount_of(os.path.realpath(patient.home), patient.root)
    if mount is None or mount.kind in NETWORK_KINDS:
        return []
    said = _output(("quota", "-l", "-w", "-p"), patient)
    if said is None:
        return []
    return [judge_room("quota", *left, mount.source) for left in quota_left(said, mount.source)]


def quota_left(said: str, source: str) -> list[tuple[int, int | None]]:
    """Bytes and files that are left of the quota on this source, from `quota -lwp`; none without limits.

    A line has the source, then for blocks of a KiB and for files: used, quota, limit, grace; used may have
    a star, and 0 is no limit.
    """
    for line in said.splitlines():
        name, *rest = line.split()[:9] or [""]
        numbers = [word.rstrip("*") for word in rest]
        if name != source or len(numbers) != 8 or not all(word.isdecimal() for word in numbers):
            continue
        used, soft, hard, _, files_used, files_soft, files_hard, _ = map(int, numbers)
        room = (soft or hard) - used if soft or hard else None
        inodes = (files_soft or files_hard) - files_used if files_soft or files_hard else None
        if room is not None or inodes is not None:
            return [
                (1 << 60 if room is None else max(0, room) << 10, None if inodes is None else max(0, inodes))
            ]
    return []


def _output(argv: Sequence[str], patient: Patient, most: int = 1 << 16) -> str | None:
    """What a program prints, None if there is no such program."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    pid = 0
    try:
        environ = {"PATH": patient.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        pid = spawn.spawn(argv, cwd="/", env=environ, stdin=null, stdout=theirs, stderr=null)
        os.close(theirs)
        theirs = -1
        data = b""
        while len(data) < most and (chunk := os.read(ours, most)):
            data += chunk
        return data.decode(errors="replace")
    except spawn.SpawnError:
        return None
    finally:
        for descriptor in (ours, null, *([theirs] if theirs >= 0 else [])):
            os.close(descriptor)
        if pid:
            os.waitpid(pid, 0)


def clock(patient: Patient) -> list[Finding]:
    """This node's clock beside the file server's."""
    why = "times in lists, the order of jobs, --begin and --backoff come from it; no claim does"
    seen = probes.clocks(patient.bench)
    off_s = abs(seen.ahead_s) - seen.unsure_s
    facts = {"ahead_s": round(seen.ahead_s, 3), "unsure_s": round(seen.unsure_s, 3)}
    if off_s > CLOCK_S:
        which = "ahead of" if seen.ahead_s > 0 else "behind"
        told = f"this node's clock is {_seconds(abs(seen.ahead_s))} {which} the file server's"
        return [
            warning(
                "clock", told, why, "let chrony or another NTP client set it: see timedatectl", facts=facts
            )
        ]
    told = (
        f"this node's clock and the file server's agree within {_seconds(abs(seen.ahead_s) + seen.unsure_s)}"
    )
    return [ok("clock", told, why, facts=facts)]


# ---------------------------------------------------------------- words


def _seconds(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.2g} ms"
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def some(names: Sequence[str]) -> str:
    """The first of these names, harmless, and how many more there are."""
    told = ", ".join(visible(name) for name in names[:NAMES_TOLD])
    return told if len(names) <= NAMES_TOLD else f"{told} and {len(names) - NAMES_TOLD} more"


def refusal(check: str, error: OSError) -> Finding:
    """The problem that an error of the system is."""
    why = "what is refused to a probe is refused to the queue"
    what = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    told = f"the system refused: {what}"
    if error.errno in files.FULL:
        return problem(check, told, why, _MORE_ROOM, SpoolFull)
    if error.errno in (errno.EIO, errno.ESTALE):
        return problem(check, told, why, "see dmesg, and whether the file server is well")
    return problem(check, told, why, "see dmesg, and `ls -ld` of what is named here")
