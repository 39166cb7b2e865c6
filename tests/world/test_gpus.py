"""Promises about GPUs: found by what their makers' tools say, never at the price of a daemon that hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words.allocation import Gpu
from roundq.world.gpus import DEADLINE_S, EVERY_S, NONE_EVERY_S, Gpus, nvidia_told
from tests.cluster.wait import wait_until
from tests.rights import need, need_root

TWO = """\
0, GPU-aa, 00000000:07:00.0, 40960, Disabled, NVIDIA A100-SXM4-40GB
1, GPU-bb, 00000000:87:00.0, 40960, Disabled, NVIDIA A100-SXM4-40GB
"""


class Box:
    """A made-up machine, with an nvidia-smi that says what it is told to."""

    def __init__(self, root: Path) -> None:
        self.root, self.now_s = root, 1000.0
        (root / "bin").mkdir()
        self.gpus = Gpus({"PATH": f"{root}/bin:{os.environ['PATH']}"}, str(root))

    def write(self, path: str, text: str) -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        return target

    def nvidia(self, gpus: str = TWO, apps: str = "", before: str = "") -> None:
        """An nvidia-smi that answers so, and does this before."""
        self.write("dev/nvidiactl", "")
        self.write("gpus", gpus)
        self.write("apps", apps)
        script = f"""#!/bin/sh
echo "$@" >> {self.root}/calls
{before}
case "$1" in --query-gpu=*) cat {self.root}/gpus;; --query-compute-apps=*) cat {self.root}/apps;; esac
"""
        # Replaced, since one that is executed cannot be written to.
        self.write("bin/new", script).chmod(0o755)
        os.rename(self.root / "bin/new", self.root / "bin/nvidia-smi")

    def calls(self) -> int:
        """How often nvidia-smi was executed."""
        path = self.root / "calls"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def look(self, offered: tuple[str, ...] | None = None, granted: tuple[str, ...] = ()) -> list[Gpu]:
        return list(self.gpus.look(self.now_s, offered, granted))

    def found(self, offered: tuple[str, ...] | None = None, granted: tuple[str, ...] = ()) -> list[Gpu]:
        """What is known once what was asked now is answered."""
        self.look(offered)
        begun_s = time.monotonic()
        self.gpus.wait(lambda: self.now_s + time.monotonic() - begun_s, 20)
        return self.look(offered, granted)

    def amd(self, node: int, gpu_id: int, name: str, vram: int = 64 << 30) -> None:
        """A GPU as /sys shows it; one with the id 0 is a processor."""
        path = f"sys/class/kfd/kfd/topology/nodes/{node}"
        self.write(f"{path}/gpu_id", f"{gpu_id}\n")
        self.write(
            f"{path}/properties",
            f"cpu_cores_count {0 if gpu_id else 64}\nsimd_count {304 if gpu_id else 0}\n"
            f"drm_render_minor {128 + node if gpu_id else 0}\n",
        )
        if gpu_id:
            self.write(f"{path}/name", name + "\n")
            self.write(f"sys/class/drm/renderD{128 + node}/device/mem_info_vram_total", f"{vram}\n")
            self.write(f"sys/class/drm/renderD{128 + node}/device/numa_node", f"{node // 3}\n")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.gpus.close()


# ---------------------------------------------------------------- NVIDIA


def test_nvidia_gpus_are_found_with_name_memory_and_place(box: Box) -> None:
    """By nvidia-smi, which counts as CUDA does with CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    box.nvidia()
    box.write("sys/bus/pci/devices/0000:87:00.0/numa_node", "1\n")

    assert box.found() == [
        Gpu("0", "NVIDIA A100-SXM4-40GB", 40960 << 20, False, (0,)),
        Gpu("1", "NVIDIA A100-SXM4-40GB", 40960 << 20, False, (1,)),
    ]
    assert (box.gpus.maker, box.gpus.trouble) == ("nvidia", ())


def test_it_is_not_waited_for(box: Box) -> None:
    """Until it has answered nothing is known, and that is said."""
    box.nvidia(before=f"while ! test -e {box.root}/go; do sleep 0.05; done")

    assert box.look() == []
    assert box.gpus.is_awaited
    assert box.gpus.again_s(box.now_s) < 1
    box.write("go", "")
    assert len(box.found()) == 2
    assert not box.gpus.is_awaited


def test_it_is_asked_once_a_minute(box: Box) -> None:
    """By two queries; in between what is known is known."""
    box.nvidia()
    box.found()
    assert box.calls() == 2

    box.now_s += EVERY_S - 1
    assert len(box.look()) == 2
    assert box.gpus.again_s(box.now_s) == pytest.approx(1)
    assert box.calls() == 2
    box.now_s += 1
    box.write("gpus", TWO.splitlines()[1])
    assert [gpu.id for gpu in box.found()] == ["1"]
    assert box.calls() == 4


def test_a_gpu_on_which_a_stranger_computes_is_busy_until_he_ends(box: Box) -> None:
    """The answer may be a minute old: who has ended is seen at once."""
    with subprocess.Popen(["sleep", "300"]) as stranger:
        box.nvidia(apps=f"GPU-bb, {stranger.pid}\nGPU-aa, 0\nGPU-xx, 1\nGPU-aa, [N/A]\nnonsense\n")
        assert [gpu.busy for gpu in box.found()] == [False, True]
        assert [gpu.busy for gpu in box.look(granted=("1",))] == [False, False]
        assert [gpu.busy for gpu in box.look(granted=("0",))] == [False, True]
        stranger.kill()
        stranger.wait()
    assert [gpu.busy for gpu in box.look()] == [False, False]


def test_a_divided_gpu_is_left_out_with_its_reason(box: Box) -> None:
    """MIG: a whole GPU is what jobs ask for."""
    box.nvidia(TWO.replace("Disabled", "Enabled", 1).replace("Disabled", "[N/A]"))

    assert [gpu.id for gpu in box.found()] == ["1"]
    assert box.gpus.trouble == ("GPU 0 is divided (MIG): its parts are not offered",)


def test_a_driver_that_does_not_work_is_told_in_its_words(box: Box) -> None:
    """And nothing is offered."""
    box.nvidia("NVIDIA-SMI has failed because it couldn't \x1b[31mcommunicate with the driver.\n")

    assert box.found() == []
    assert "couldn't \\x1b[31mcommunicate with the driver" in box.gpus.trouble[0]
    assert not box.gpus.is_awaited


def test_without_nvidia_smi_that_is_said(box: Box) -> None:
    """A container that has the devices, but not the tool."""
    box.nvidia()
    os.unlink(box.root / "bin/nvidia-smi")
    box.gpus = Gpus({"PATH": f"{box.root}/bin"}, str(box.root))

    assert box.found() == []
    assert "nvidia-smi: not found along PATH" in box.gpus.trouble[0]


def test_a_driver_that_hangs_holds_nobody(box: Box) -> None:
    """It is killed at its deadline, nothing is offered meanwhile, and it is asked again later."""
    box.nvidia(before="echo $$ > $0.pid.$$; exec sleep 300")
    box.look()
    wait_until(lambda: len(list((box.root / "bin").glob("nvidia-smi.pid.*"))) == 2)
    begun_s = time.monotonic()
    box.now_s += DEADLINE_S
    assert box.look() == []

    assert time.monotonic() - begun_s < 5
    assert "does not answer" in box.gpus.trouble[0]
    box.nvidia()
    wait_until(lambda: box.look() == [] and box.gpus.descriptors() == [])
    assert "does not answer" in box.gpus.trouble[0]
    box.now_s += EVERY_S
    assert len(box.found()) == 2
    assert box.gpus.trouble == ()


def test_what_was_found_is_not_offered_when_the_driver_begins_to_hang(box: Box) -> None:
    """A job on it would hang, too. It is still there, so that nobody says that it never comes back."""
    box.nvidia()
    assert len(box.found()) == 2
    box.nvidia(before="exec sleep 300")
    box.now_s += EVERY_S
    assert len(box.look()) == 2
    box.now_s += DEADLINE_S
    assert [(gpu.id, gpu.busy) for gpu in box.look()] == [("0", True), ("1", True)]
    assert [gpu.busy for gpu in box.look(granted=("1",))] == [True, False], "a job has it"
    assert "does not answer" in box.gpus.trouble[0]
    assert box.look(()) == []


@pytest.mark.parametrize(
    "says",
    ["", "Unable to determine the device handle for GPU0000:07:00.0: Unknown Error\n", None],
    ids=["nothing", "an error", "no tool"],
)
def test_what_was_found_is_there_while_the_driver_does_not_tell(box: Box, says: str | None) -> None:
    """For a while it is only not free. With the next answer it is what that says; without devices gone."""
    box.nvidia()
    assert len(box.found()) == 2
    box.nvidia(says or "")
    if says is None:
        box.write("bin/nvidia-smi", "#!/nowhere/at/all\n")
    box.now_s += EVERY_S

    assert [(gpu.id, gpu.busy) for gpu in box.found()] == [("0", True), ("1", True)]
    assert len(box.gpus.trouble) == 1
    box.nvidia(TWO.splitlines()[1])
    box.now_s += EVERY_S
    assert [(gpu.id, gpu.busy) for gpu in box.found()] == [("1", False)]
    assert not box.gpus.trouble
    os.unlink(box.root / "dev/nvidiactl")
    box.now_s += EVERY_S
    assert box.found() == []


def test_what_is_divided_by_now_is_gone(box: Box) -> None:
    """That is an answer."""
    box.nvidia()
    assert len(box.found()) == 2
    box.nvidia(TWO.replace("Disabled", "Enabled"))
    box.now_s += EVERY_S

    assert box.found() == []
    assert len(box.gpus.trouble) == 2


def test_one_whom_no_signal_ends_is_asked_no_more(box: Box) -> None:
    """As in a driver that hangs; while he is there, nobody is added to him."""
    need(os.path.exists("/bin/sh"), "a shell")
    # What holds the pipe open is another process than the one that is killed.
    box.nvidia(before="sleep 300 & echo $! >> $0.left; exec sleep 300")
    box.look()
    wait_until(lambda: (box.root / "bin/nvidia-smi.left").exists())
    wait_until(lambda: len((box.root / "bin/nvidia-smi.left").read_text().split()) == 2)
    try:
        for _ in range(3):
            box.now_s += DEADLINE_S + EVERY_S + NONE_EVERY_S
            assert box.look() == []
        assert box.calls() == 2
        assert box.gpus.again_s(box.now_s) == NONE_EVERY_S
    finally:
        for pid in (box.root / "bin/nvidia-smi.left").read_text().split():
            os.kill(int(pid), 9)


def test_it_dies_with_who_asked(box: Box) -> None:
    """A daemon that is killed leaves nothing behind."""
    box.nvidia(before="echo $$ >> $0.pids; exec sleep 300")
    code = (
        "import os, sys; from roundq.world.gpus import Gpus;"
        "Gpus({'PATH': sys.argv[2]}, sys.argv[1]).look(0.0); sys.stdin.read()"
    )
    words = [sys.executable, "-c", code, str(box.root), f"{box.root}/bin:{os.environ['PATH']}"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as asking:
        pids = box.root / "bin/nvidia-smi.pids"
        wait_until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
        asking.kill()
        asking.wait()
    wait_until(lambda: not any(_lives(int(pid)) for pid in pids.read_text().split()))


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


words = st.text(max_size=30)


@given(st.lists(words, max_size=6), st.lists(words, max_size=6))
def test_nonsense_from_a_tool_gives_no_gpu_and_no_error(lines: list[str], apps: list[str]) -> None:
    """Tools to come will write lines that we do not know."""
    found = nvidia_told("\n".join([*lines, "0, GPU-aa, x"]), "\n".join(apps), numa=lambda _: 0)

    assert all(gpu.id.isdecimal() for gpu in found.gpus)
    assert found.left_out


# ---------------------------------------------------------------- AMD


def test_amd_gpus_are_found_by_what_the_kernel_shows(box: Box) -> None:
    """In the order in which ROCR_VISIBLE_DEVICES counts them; those of processors are none."""
    box.amd(0, 0, "")
    box.amd(1, 0, "")
    box.amd(2, 4711, "gfx90a")
    box.amd(10, 4712, "gfx90a", vram=512 << 20)
    box.amd(11, 4713, "gfx942")
    box.write("sys/class/kfd/kfd/proc/1/vram_4713", "1048576\n")
    box.write("sys/class/kfd/kfd/proc/1/vram_4711", "0\n")

    assert box.found() == [
        Gpu("0", "gfx90a", 64 << 30, False, (0,)),
        Gpu("2", "gfx942", 64 << 30, True, (3,)),
    ]
    assert box.gpus.maker == "amd"
    assert box.gpus.trouble == ("GPU 1 has 512 MiB of its own: taken for a part of a processor",)


def test_an_amd_driver_that_hangs_holds_nobody(box: Box) -> None:
    """It is a helper process that reads what it shows."""
    box.amd(1, 4711, "gfx90a")
    os.unlink(box.root / "sys/class/kfd/kfd/topology/nodes/1/properties")
    os.mkfifo(box.root / "sys/class/kfd/kfd/topology/nodes/1/properties")
    box.look()
    box.now_s += DEADLINE_S

    assert box.look() == []
    assert "does not answer" in box.gpus.trouble[0]


def test_a_processor_that_draws_the_screen_is_not_offered_beside_nvidia(box: Box) -> None:
    """All GPUs of a node are of one maker, since a job does not say of which it wants one."""
    box.amd(1, 4711, "gfx1036")
    box.nvidia()

    assert [gpu.name for gpu in box.found()] == ["NVIDIA A100-SXM4-40GB"] * 2


# ---------------------------------------------------------------- none, and what is configured


def test_a_node_without_gpus_pays_two_calls(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is made, and it is looked for devices again after ten minutes."""
    looked: list[str] = []
    exists = os.path.exists

    def counted(path: str) -> bool:
        looked.append(path)
        return exists(path)

    monkeypatch.setattr(os.path, "exists", counted)
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("a process was made"))

    for _ in range(5):
        assert box.look() == []
        box.now_s += 1
    assert len(looked) == 2
    assert not box.gpus.is_awaited
    assert box.gpus.again_s(box.now_s) == NONE_EVERY_S - 5


def test_what_is_configured_is_offered_of_what_is_found(box: Box) -> None:
    """Not the one for the screen; what is not found is said to be missing."""
    box.nvidia()

    assert [gpu.id for gpu in box.found(("1", "7"))] == ["1"]
    assert box.gpus.trouble == ("GPU 7 is configured, but is not found here",)


def test_none_are_offered_where_so_configured(box: Box) -> None:
    """Nobody is asked then."""
    box.nvidia()

    assert box.look(()) == []
    assert (box.calls(), box.gpus.maker, box.gpus.is_awaited) == (0, "nvidia", False)
    # Until somebody changes that.
    assert len(box.found()) == 2
    assert box.look(()) == []
    box.now_s += NONE_EVERY_S
    assert box.look(()) == []
    assert box.calls() == 2
    assert [gpu.id for gpu in box.found(("0",))] == ["0"]


def test_where_no_maker_is_known_what_is_configured_is_believed(box: Box) -> None:
    """Accelerators of others, and tests."""
    assert box.look(("0", "1")) == [Gpu("0"), Gpu("1")]
    assert box.gpus.trouble == ()


def test_processes_that_proc_hides_are_busy_too(box: Box) -> None:
    """With hidepid nobody sees who they are; that they are there can be told."""
    need_root()
    code = (
        "import encodings.ascii, os, sys, time;"
        "from roundq.world.gpus import Gpus; from roundq.world import procs, spawn;"
        "g = Gpus({'PATH': sys.argv[2]}, sys.argv[1]); t = time.monotonic;"
        # What is imported late this user may not be able to read.
        "spawn.prepare(); spawn._libc();"
        "os.setuid(65534); procs._read = lambda *_: (_ for _ in ()).throw(FileNotFoundError());"
        "g.look(t()); g.wait(t, 20); print([gpu.busy for gpu in g.look(t())])"
    )
    os.chmod(box.root, 0o755)
    for above in list(box.root.parents)[:-2]:
        if os.stat(above).st_uid == os.geteuid() and not os.stat(above).st_mode & 0o001:
            os.chmod(above, os.stat(above).st_mode | 0o011)
    box.nvidia(apps="GPU-bb, 1\nGPU-aa, 4194303\n", before="exec 2>&1; :")
    box.write("calls", "")
    os.chmod(box.root / "calls", 0o666)
    done = subprocess.run(
        [sys.executable, "-c", code, str(box.root), f"{box.root}/bin:{os.environ['PATH']}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("[False, True]\n", "")
