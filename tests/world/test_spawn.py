"""Promises about starting a command: exactly as asked, and no doubt about why it did not start."""

from __future__ import annotations

import errno
import os
import resource
import select
import signal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roundq.world import procs, spawn
from roundq.world.spawn import SpawnError
from tests.cluster.wait import wait_until
from tests.world.processes import SCENE_S, forked, on_stage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PATH = "/usr/local/bin:/usr/bin:/bin"


def output_of(argv: Sequence[str], **asked: Any) -> bytes:
    """What a command prints on both streams, once it has ended well."""
    reading, writing = os.pipe()
    null = os.open(os.devnull, os.O_RDONLY)
    settings = {
        "cwd": "/",
        "env": {"PATH": PATH},
        "stdin": null,
        "stdout": writing,
        "stderr": writing,
        **asked,
    }
    try:
        pid = spawn.spawn(argv, **settings)
    except SpawnError:
        os.close(reading)
        raise
    finally:
        os.close(writing)
        os.close(null)
    with open(reading, "rb") as file:
        data = file.read()
    assert os.waitpid(pid, 0) == (pid, 0), data
    return data


def shell(script: str, **asked: Any) -> str:
    """What a shell script prints."""
    return output_of(["sh", "-c", script], **asked).decode()


def refusal(argv: Sequence[str], **asked: Any) -> SpawnError:
    """The error that a command causes before it runs."""
    with pytest.raises(SpawnError) as caught:
        output_of(argv, **asked)
    return caught.value


def script(path: Path, text: str, mode: int = 0o755) -> Path:
    """An executable file with this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


# ---------------------------------------------------------------- as asked


def test_a_command_gets_its_directory_umask_and_exact_environment(tmp_path: Path) -> None:
    """Nothing of ours is added to the environment, and nothing is left out."""
    env = {"PATH": PATH, "EMPTY": "", "LINES": "a\nb", "RAW": "\udcff"}

    found = output_of(["env", "-0"], env=env)

    assert {os.fsencode(f"{name}={value}") for name, value in env.items()} == set(found.split(b"\0")) - {b""}
    assert shell("pwd; umask", cwd=str(tmp_path), umask=0o027).split() == [str(tmp_path), "0027"]


def test_a_command_is_as_nice_as_asked_but_never_less_than_we_are() -> None:
    """Nineteen by default; a lower number does not raise its priority."""
    mine = os.getpriority(os.PRIO_PROCESS, 0)

    assert shell("nice") == "19\n"
    assert shell("nice", nice=None) == f"{mine}\n"
    assert shell("nice", nice=mine + 3) == f"{min(19, mine + 3)}\n"
    assert shell("nice", nice=-20) == f"{mine}\n"


def test_a_command_has_the_cpus_granted() -> None:
    """nproc, and whoever asks the scheduler, sees just those."""
    granted = sorted(os.sched_getaffinity(0))[:1]

    assert shell("nproc", affinity=granted) == "1\n"


@pytest.mark.parametrize("new_session", [True, False])
def test_a_command_leads_a_session_if_asked(new_session: bool) -> None:
    """A command in its own session cannot signal our group, nor the terminal ours."""
    fields = shell("cat /proc/$$/stat", new_session=new_session).rpartition(")")[2].split()

    leads = fields[3] != str(os.getsid(0))
    assert leads is new_session


def test_a_command_has_no_descriptor_but_its_three() -> None:
    """Also not those that we ourselves inherited and would pass on."""
    leak = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leak, True)
    try:
        # `ls` opens one itself.
        assert len(shell("ls /proc/self/fd").split()) == 4
    finally:
        os.close(leak)


def test_a_command_ignores_and_blocks_no_signal() -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and whoever started us may ignore or block any other."""

    def act() -> str:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGINT, signal.SIGRTMIN})
        # Not by a shell, which would clear its mask.
        status = output_of(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]).decode()
        # What is ours stays ours.
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert mask == {signal.SIGCHLD, signal.SIGINT, signal.SIGRTMIN}
        return status

    assert {line.split()[1] for line in on_stage(act).splitlines()} == {"0" * 16}


def test_streams_may_have_any_numbers(tmp_path: Path) -> None:
    """Also when ours are closed, or are one another's."""
    path = tmp_path / "both"
    path.write_text("in")

    def act() -> None:
        os.closerange(0, 3)
        out = os.open(path, os.O_RDWR | os.O_APPEND)
        also_out = os.dup(out)
        null = os.open(os.devnull, os.O_RDONLY)
        assert (out, also_out, null) == (0, 1, 2)
        pid = spawn.spawn(
            ["sh", "-c", "cat; echo out; echo err >&2"],
            cwd="/",
            env={"PATH": PATH},
            stdin=null,
            stdout=out,
            stderr=also_out,
        )
        assert os.waitpid(pid, 0) == (pid, 0)

    on_stage(act)
    assert path.read_text() == "inout\nerr\n"


def test_a_failure_is_reported_though_our_streams_are_closed() -> None:
    """The pipe over which it is reported then has one of their numbers, and must not be overwritten."""

    def act() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        assert null > 2
        os.closerange(0, 3)
        with pytest.raises(SpawnError):
            spawn.spawn(["absent"], cwd="/", env={"PATH": PATH}, stdin=null, stdout=null, stderr=null)

    on_stage(act)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=30).filter(lambda word: b"\0" not in word), max_size=4))
def test_words_are_bytes(words: list[bytes]) -> None:
    """Any bytes but NUL reach the command as they were given."""
    found = output_of(["printf", r"%s\0", "first", *map(os.fsdecode, words)])

    assert [b"first", *words] == found.split(b"\0")[:-1]


def test_paths_are_bytes(tmp_path: Path) -> None:
    """A directory and a command need not be named in UTF-8."""
    directory = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 \n")
    os.mkdir(directory)
    command = os.path.join(directory, "\udcfe")
    with open(command, "w") as file:
        file.write("#!/bin/sh\npwd")
    os.chmod(command, 0o755)

    assert output_of(["./\udcfe"], cwd=directory) == os.fsencode(directory) + b"\n"


# ---------------------------------------------------------------- the command is looked up


def test_a_command_is_looked_up_along_the_path_of_its_own_environment(tmp_path: Path) -> None:
    """Not along ours; an empty place is its directory, as shells have it."""
    script(tmp_path / "one" / "tool", "#!/bin/sh\necho one")
    script(tmp_path / "two" / "tool", "#!/bin/sh\necho two")

    def found(path: str) -> bytes:
        return output_of(["tool"], cwd=str(tmp_path / "two"), env={"PATH": path})

    assert found(f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two") == b"one\n"
    assert found(f"{tmp_path}/none::{tmp_path}/one") == b"two\n"
    assert found("../one") == b"one\n"
    assert output_of(["./tool"], cwd=str(tmp_path / "one")) == b"one\n"
    assert output_of(["sh", "-c", "echo without PATH"], env={}) == b"without PATH\n"


def test_what_may_not_be_executed_does_not_end_the_search(tmp_path: Path) -> None:
    """As in a shell: the next one along PATH is taken, and the first obstacle reported if there is none."""
    script(tmp_path / "one" / "tool", "#!/bin/sh", 0o644)
    (tmp_path / "two" / "tool").mkdir(parents=True)
    script(tmp_path / "three" / "tool", "#!/bin/sh\necho three")
    places = f"{tmp_path}/one:{tmp_path}/two"

    assert output_of(["tool"], env={"PATH": f"{places}:{tmp_path}/three"}) == b"three\n"
    error = refusal(["tool"], env={"PATH": places})
    assert (error.stage, error.errno, error.path) == ("command", errno.EACCES, f"{tmp_path}/one/tool")


# ---------------------------------------------------------------- why it did not start


def test_each_refusal_says_why(tmp_path: Path) -> None:
    """The errno alone would mislead: a missing interpreter is ENOENT though the script exists."""
    script(tmp_path / "typo", "#!/usr/bin/pythonn -u\n")
    script(tmp_path / "windows", "#!/bin/sh\r\n")
    script(tmp_path / "plain", "echo plain\n")
    script(tmp_path / "forbidden", "#!/bin/sh\n", 0o644)
    (tmp_path / "directory").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")

    def refused(command: str, stage: str = "command") -> tuple[int, str]:
        error = refusal([command], cwd=str(tmp_path), env={"PATH": "/nowhere"})
        assert error.stage == stage
        return error.errno, str(error).removeprefix(f"cannot execute {command}: ")

    def lacks(interpreter: str) -> tuple[int, str]:
        return errno.ENOENT, f"it exists, but its interpreter {interpreter} does not"

    unknown_format = "not an executable format (a script needs a first line such as #!/bin/sh)"
    assert refused("./typo", "interpreter") == lacks("'/usr/bin/pythonn'")
    assert refused("./windows", "interpreter") == lacks(r"'/bin/sh\r'")
    assert refused("./plain") == (errno.ENOEXEC, unknown_format)
    assert refused("./forbidden") == (errno.EACCES, "it is not marked as executable (chmod +x)")
    assert refused("./directory") == (errno.EACCES, "it is a directory")
    assert refused("./dangling") == (errno.ENOENT, "it is a symbolic link to nothing")
    assert refused("./circle") == (errno.ELOOP, "Too many levels of symbolic links")
    assert refused("./absent") == (errno.ENOENT, "No such file or directory")
    assert refused("./plain/absent") == (errno.ENOTDIR, "Not a directory")
    assert refused("absent") == (errno.ENOENT, "not found along PATH=/nowhere")


def test_a_directory_that_cannot_be_entered_is_told_from_a_command(tmp_path: Path) -> None:
    """Stage "directory", before the command is even looked for."""
    (tmp_path / "file").touch()

    absent = refusal(["absent"], cwd=str(tmp_path / "absent"))
    no_directory = refusal(["absent"], cwd=str(tmp_path / "file"))

    assert (absent.stage, absent.errno, absent.path) == ("directory", errno.ENOENT, str(tmp_path / "absent"))
    assert str(absent) == f"cannot enter {tmp_path}/absent: No such file or directory"
    assert (no_directory.stage, no_directory.errno) == ("directory", errno.ENOTDIR)


def test_arguments_that_are_too_long_are_the_commands_fault() -> None:
    """E2BIG of execve(2): no argument may be longer than 128 KiB."""
    error = refusal(["true", "x" * (1 << 18)])

    assert (error.stage, error.errno) == ("command", errno.E2BIG)
    assert str(error).endswith("/true: Argument list too long")


@pytest.mark.parametrize(
    "asked",
    [
        {"argv": []},
        {"argv": ["true", "a\0b"]},
        {"env": {"A=B": "c"}},
        {"env": {"": "c"}},
        {"env": {"A": "c\0"}},
        {"cwd": "/\0"},
        {"argv": ["true", "\ud800"]},
        {"affinity": [1 << 14]},
        {"affinity": []},
        {"umask": "x"},
    ],
)
def test_what_cannot_be_passed_on_is_a_setup_error(asked: dict[str, Any]) -> None:
    """Whatever is wrong with what was asked for, no process is left and nothing is raised but SpawnError."""
    error = refusal(**{"argv": ["true"], **asked})

    assert (error.stage, error.errno) == ("setup", errno.EINVAL)
    assert str(error)


def test_no_process_to_be_had_is_a_setup_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """EAGAIN of fork(2), from a limit on processes; signals are not left blocked."""

    def limited() -> int:
        raise BlockingIOError(errno.EAGAIN, "")

    monkeypatch.setattr(os, "fork", limited)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    error = refusal(["true"])

    assert (error.stage, error.errno) == ("setup", errno.EAGAIN)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_a_stale_handle_is_tried_again() -> None:
    """ESTALE says that an NFS client must look afresh, not that a directory is gone."""
    tries: list[object] = []

    def stale_once(path: object) -> None:
        tries.append(path)
        if len(tries) < 2:
            raise OSError(errno.ESTALE, "")

    spawn._firmly(stale_once, b"/")
    assert len(tries) == 2

    def stale(_: object) -> None:
        raise OSError(errno.ESTALE, "still stale")

    with pytest.raises(OSError, match="still stale"):
        spawn._firmly(stale, b"/")


def test_failures_leave_nothing_behind() -> None:
    """No zombie and no descriptor, however often it is tried."""

    def act() -> None:
        def descriptors() -> int:
            return len(os.listdir("/proc/self/fd"))

        before = descriptors()
        for _ in range(20):
            refusal(["absent"])
            refusal(["true"], cwd="/absent")
            refusal([])
            output_of(["true"])
        assert descriptors() == before
        assert procs.childless()

    on_stage(act)


def test_a_command_that_is_killed_before_it_runs_is_known_by_its_status() -> None:
    """Nothing is reported then, so the wait status has to tell; it is never taken for a failure of ours."""

    def act() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        pid, report = spawn.launch(
            ["sleep", str(SCENE_S)], cwd="/", env={"PATH": PATH}, stdin=null, stdout=null, stderr=null
        )
        os.kill(pid, signal.SIGKILL)
        spawn.launched(pid, report)
        assert os.waitpid(pid, 0) == (pid, signal.SIGKILL)

    on_stage(act)


def test_the_start_can_be_waited_for_together_with_other_things() -> None:
    """`launch` returns at once; its descriptor is readable as soon as it is decided."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        pid, report = spawn.launch(
            ["absent"], cwd="/", env={"PATH": PATH}, stdin=null, stdout=null, stderr=null
        )
    finally:
        os.close(null)

    assert select.select([report], [], [], 10)[0] == [report]
    with pytest.raises(SpawnError, match="not found along PATH"):
        spawn.launched(pid, report)


# ---------------------------------------------------------------- oneself


def test_orphans_fall_to_a_subreaper() -> None:
    """And not to its children's children: that is how a supervisor finds them again."""

    def act() -> None:
        me = procs.own_identity()
        parent = forked(lambda: forked(lambda: signal.pause()))
        os.waitpid(parent, 0)
        orphan = wait_until(lambda: procs.descendants(me))[0]
        assert procs.table()[orphan.pid].parent == os.getpid()

    on_stage(act)


def test_a_name_is_cut_and_may_be_any_bytes() -> None:
    """Fifteen bytes are what the kernel keeps."""

    def act() -> list[bytes]:
        names = []
        for name in (b"rq:17_3", b"a longer name than fits", b"\xff\n)"):
            spawn.set_name(name)
            with open("/proc/self/comm", "rb") as file:
                names.append(file.read()[:-1])
        return names

    assert on_stage(act) == [b"rq:17_3", b"a longer name t", b"\xff\n)"]


@pytest.mark.parametrize("closed", [(), (0,), (0, 1, 2)])
def test_what_was_inherited_is_closed(closed: tuple[int, ...]) -> None:
    """But what is to be kept; 0, 1 and 2 are never free to be taken by the next file."""

    def act() -> None:
        kept, inherited = os.open("/", os.O_RDONLY), os.open("/", os.O_RDONLY)
        os.set_inheritable(inherited, True)
        # The stage keeps the pipe over which it answers.
        others = {int(name) for name in os.listdir("/proc/self/fd")} - {kept, inherited, 0, 1, 2}
        for number in closed:
            os.close(number)

        spawn.close_inherited({kept, *others})

        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(inherited)
        os.fstat(kept)
        assert [os.readlink(f"/proc/self/fd/{number}") for number in (0, 1, 2)] == [os.devnull] * 3
        assert all(os.get_inheritable(number) for number in (0, 1, 2))
        assert os.open("/", os.O_RDONLY) > 2

    on_stage(act)


def test_a_standard_stream_may_be_kept() -> None:
    """The daemon's log stays where a supervisor prints to."""

    def act() -> None:
        before = os.fstat(2)
        others = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}
        spawn.close_inherited({2, *others})
        assert os.path.samestat(before, os.fstat(2))

    on_stage(act)


def test_preparing_it_makes_it_cheap_after_a_fork() -> None:
    """A child of whoever prepared imports nothing to become a subreaper."""
    spawn.prepare()

    def act() -> float:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        spawn.become_subreaper()
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    # An import of ctypes touches several hundred pages.
    assert on_stage(act) < 200


def test_a_command_dies_with_whoever_started_it() -> None:
    """Without its supervisor it has no limit, no outcome and no owner."""
    reading, writing = os.pipe()

    def start() -> None:
        null = os.open(os.devnull, os.O_RDWR)
        env = {"PATH": PATH}
        pid = spawn.spawn(["sleep", "300"], cwd="/", env=env, stdin=null, stdout=null, stderr=null)
        os.write(writing, str(pid).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    parent = os.fork()
    if parent == 0:
        start()
    os.waitpid(parent, 0)
    pid = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)

    wait_until(lambda: (one := procs.identity(pid)) is None or procs.liveness(one) is procs.Liveness.DEAD)
