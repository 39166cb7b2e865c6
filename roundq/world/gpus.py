"""The GPUs of this node, and who computes on them; asked for now and then, by processes that may hang.

A driver that hangs holds whoever asks it, and no signal ends that. So the daemon never asks itself: it has
nvidia-smi(1), or a helper process for /sys/class/kfd, write to a pipe, and reads later what is there.
On a node without such devices that costs two calls of stat(2).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from roundq.words.allocation import AMD, NVIDIA, Gpu
from roundq.words.job import Identity
from roundq.words.quantities import visible
from roundq.world import procs, spawn

#: Which file tells that there may be GPUs of a maker.
_DEVICES = {NVIDIA: "/dev/nvidiactl", AMD: "/sys/class/kfd/kfd/topology/nodes"}
#: How often they are looked at: where there are some, and where there may be some one day.
EVERY_S, NONE_EVERY_S = 60.0, 600.0
#: What has not answered by then is killed; a driver that starts needs some seconds for each GPU.
DEADLINE_S = 30.0
#: As long as an answer is awaited, it is looked for this often.
SOON_S = 0.2
#: What has less memory of its own is the part of a processor that draws the screen.
AMD_MEMORY_MIN = 1 << 30
_ANSWER_BYTES_MAX = 1 << 20
_FILE_BYTES_MAX = 1 << 14
_SAID_CHARS_MAX = 120
_GPUS_MAX = 64

_QUERIES = (
    "--query-gpu=index,uuid,pci.bus_id,memory.total,mig.mode.current,name",
    "--query-compute-apps=gpu_uuid,pid",
)
_FORMAT = "--format=csv,noheader,nounits"


class _Found(NamedTuple):
    """What an answer says: GPUs, which processes compute on each, by its id, and why some are left out.

    It `is_known` unless there is nothing but an error.
    """

    gpus: tuple[Gpu, ...] = ()
    users: Mapping[str, Collection[int]] = {}
    left_out: tuple[str, ...] = ()
    is_known: bool = True


@dataclass(slots=True)
class _Asked:
    """A process that was asked, and what it has said so far."""

    pid: int
    process: Identity | None
    answering: int
    #: Of a program: what tells whether it could be executed.
    report: int | None = None
    data: bytearray = field(default_factory=bytearray)
    is_over: bool = False

    def read(self) -> bool:
        """Whether it has said everything."""
        while not self.is_over:
            try:
                chunk = os.read(self.answering, 1 << 16)
            except BlockingIOError:
                return False
            self.data += chunk
            if not chunk or len(self.data) > _ANSWER_BYTES_MAX:
                os.close(self.answering)
                self.is_over = True
        return True

    def failed(self) -> str | None:
        """Of one that has said everything: why it could not be executed, None if it could."""
        if self.report is None:
            return None
        report, self.report = self.report, None
        try:
            spawn.launched(self.pid, report)
        except spawn.SpawnError as error:
            return str(error)
        except ChildProcessError:
            return "it could not be executed"
        return None

    def kill(self) -> None:
        """Ends it; one that hangs ends when its driver lets it."""
        if self.process is not None:
            with contextlib.suppress(OSError):
                procs.send(self.process, signal.SIGKILL)

    def close(self) -> None:
        """Listens to it no more."""
        if not self.is_over:
            self.is_over = True
            os.close(self.answering)
            self.kill()
        if self.report is not None:
            os.close(self.report)
            self.report = None
        # The daemon may have collected it with its other children.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)


class Gpus:
    """What one process knows of the GPUs of its node. `root` stands before /dev and /sys, for tests.

    `maker` is whose GPUs they are, empty if none are known; `trouble` is why some, or all, are not offered.
    """

    def __init__(self, environ: Mapping[str, str], root: str = "") -> None:
        self._environ, self._root = environ, root
        self._asked: list[_Asked] = []
        self._found = _Found()
        self._users: dict[str, list[Identity]] = {}
        self._begun_s = 0.0
        self._due_s = float("-inf")
        self._is_late = False
        self._is_none_offered = False
        #: Whether nothing is offered only because the first answer has not come yet.
        self.is_awaited = False
        self.maker = ""
        self.trouble: tuple[str, ...] = ()

    def look(
        self, now_s: float, offered: Sequence[str] | None = None, granted: Collection[str] = ()
    ) -> tuple[Gpu, ...]:
        """The GPUs as far as is known now; never waits. `now_s` is monotonic.

        `offered` are the ids that are configured, None for all. `granted` are those that jobs have: who
        computes there is no stranger. Those of which nothing is told any more are there, but busy. Where no
        maker's devices are found, those that are configured are believed in.
        """
        if offered is not None and not offered:
            # Nobody is asked; but who did not ask for GPUs is to be kept off them.
            if self._asked or now_s >= self._due_s:
                self.close()
                self.maker, self._due_s = next(iter(self._there()), ""), now_s + NONE_EVERY_S
            self._found, self._is_none_offered = _Found(), True
            self.trouble, self.is_awaited = (), False
            return ()
        if self._is_none_offered:
            self._is_none_offered, self.maker, self._due_s = False, "", float("-inf")
        self._listen(now_s)
        if not self._asked and now_s >= self._due_s:
            self._ask(now_s)
        found = self._found.gpus
        missing: tuple[str, ...] = ()
        if offered is not None:
            by_id = {gpu.id: gpu for gpu in found}
            if self.maker:
                missing = tuple(one for one in offered if one not in by_id) if found else ()
                found = tuple(by_id[one] for one in offered if one in by_id)
            else:
                found = tuple(Gpu(one) for one in offered)
        self.trouble = (
            *self._found.left_out,
            *(f"GPU {visible(one)} is configured, but is not found here" for one in missing),
        )
        is_hidden = bool(self.maker) and not self._found.is_known
        return tuple(
            gpu._replace(busy=gpu.id not in granted and (is_hidden or self._is_used(gpu.id))) for gpu in found
        )

    def again_s(self, now_s: float) -> float:
        """Seconds until `look` may have something new."""
        if not self._asked:
            return max(0.0, self._due_s - now_s)
        return NONE_EVERY_S if self._is_late else SOON_S

    def descriptors(self) -> list[int]:
        """What is readable when an answer goes on."""
        return [one.answering for one in self._asked if not one.is_over]

    def wait(self, now_s: Callable[[], float], most_s: float) -> None:
        """Waits for the answer that is awaited, at most so long: for commands, which look once."""
        end_s = now_s() + most_s
        while self._asked and not self._is_late and (left_s := end_s - now_s()) > 0:
            select.select(self.descriptors(), [], [], left_s)
            self._listen(now_s())

    def close(self) -> None:
        """Ends who was asked; one that hangs ends when its driver does."""
        for one in self._asked:
            one.close()
        self._asked = []

    def _is_used(self, gpu_id: str) -> bool:
        # The answer is a minute old: who was there then may have ended.
        return any(procs.liveness(one) is not procs.Liveness.DEAD for one in self._users.get(gpu_id, ()))

    # ------------------------------------------------------------ asking

    def _ask(self, now_s: float) -> None:
        self._begun_s, self._is_late = now_s, False
        self._due_s = now_s + NONE_EVERY_S
        there = self._there()
        if not there:
            self.maker, self._found, self._users, self.is_awaited = "", _Found(), {}, False
            return
        # A processor of the other maker may draw the screen: one node has the GPUs of one maker.
        self.is_awaited = self.is_awaited or not self.maker
        self.maker = there[0]
        try:
            self._asked = self._nvidia() if self.maker == NVIDIA else [self._amd()]
        except (spawn.SpawnError, OSError) as error:
            self._is_not_known(f"the GPUs of this node cannot be asked for: {error}")

    def _there(self) -> list[str]:
        return [maker for maker, path in _DEVICES.items() if os.path.exists(self._root + path)]

    def _nvidia(self) -> list[_Asked]:
        kept = {name: self._environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in self._environ}
        asked: list[_Asked] = []
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            for query in _QUERIES:
                answering, said = os.pipe2(os.O_CLOEXEC)
                os.set_blocking(answering, False)
                try:
                    # It is not waited for: its program may lie where nothing answers.
                    pid, report = spawn.launch(
                        ["nvidia-smi", query, _FORMAT],
                        cwd="/",
                        env={**kept, "LC_ALL": "C"},
                        stdin=null,
                        stdout=said,
                        stderr=null,
                        nice=None,
                    )
                except BaseException:
                    os.close(answering)
                    for one in asked:
                        one.close()
                    raise
                finally:
                    os.close(said)
                asked.append(_Asked(pid, procs.identity(pid), answering, report))
        finally:
            os.close(null)
        return asked

    def _amd(self) -> _Asked:
        root = self._root

        def serve(_: int, answered: int) -> None:
            spawn.set_name(b"rq:gpus")
            spawn.set_title(b"rq reader of GPUs")
            rest = memoryview(json.dumps(_amd_told(root)).encode())
            while rest:
                rest = rest[os.write(answered, rest) :]

        pid, asking, answering = spawn.helper(serve)
        os.close(asking)
        os.set_blocking(answering, False)
        return _Asked(pid, procs.identity(pid), answering)

    # ------------------------------------------------------------ listening

    def _listen(self, now_s: float) -> None:
        if not self._asked:
            return
        # All of them: one that ended must not hide what another says.
        unread = [one for one in self._asked if not one.read()]
        if not unread:
            if not self._is_late:
                self._understand()
            for one in self._asked:
                one.close()
            self._asked = []
            self._due_s = (now_s if self._is_late else self._begun_s) + EVERY_S
        elif not self._is_late and now_s - self._begun_s >= DEADLINE_S:
            self._is_late = True
            what = "nvidia-smi" if self.maker == NVIDIA else "the driver of the GPUs"
            self._is_not_known(f"{what} does not answer within {DEADLINE_S:g} seconds: no GPUs are offered")
            for one in self._asked:
                one.kill()

    def _is_not_known(self, *why: str) -> None:
        # What was there a minute ago is not gone for good because its driver is slow: nobody is to hear that.
        self._found = _Found(self._found.gpus, left_out=why, is_known=False)
        self._users, self.is_awaited = {}, False

    def _understand(self) -> None:
        if failed := next(filter(None, [one.failed() for one in self._asked]), None):
            self._is_not_known(f"the GPUs of this node cannot be asked for: {failed}")
            return
        said = [one.data.decode(errors="replace") for one in self._asked]
        if self.maker == NVIDIA:
            found = nvidia_told(said[0], said[1], lambda bus: _numa(bus, self._root))
        else:
            found = _amd_understood(said[0])
        if not found.is_known:
            self._is_not_known(*found.left_out)
            return
        self._found, self.is_awaited = found, False
        self._users = {
            # Whom /proc hides has no start time: he is there as long as somebody has his pid.
            gpu_id: [procs.identity(pid) or Identity(procs.boot_id(), pid, 0) for pid in pids]
            for gpu_id, pids in found.users.items()
        }


# ---------------------------------------------------------------- what nvidia-smi says


def nvidia_told(gpus: str, apps: str, numa: Callable[[str], int]) -> _Found:
    """What nvidia-smi answers to the two queries; `numa` tells the NUMA node of a bus id."""
    found: list[Gpu] = []
    left_out: list[str] = []
    is_known = False
    ids: dict[str, str] = {}
    lines = [line for line in gpus.splitlines() if line.strip()]
    for line in lines[:_GPUS_MAX]:
        words = [word.strip() for word in line.split(",", 5)]
        if len(words) < 6 or not words[0].isascii() or not words[0].isdecimal():
            # What goes wrong is said in place of the table.
            left_out.append(f"nvidia-smi: {_short(line)}")
            continue
        number, uuid, bus, memory, mig, name = words
        is_known = True
        if mig == "Enabled":
            left_out.append(f"GPU {number} is divided (MIG): its parts are not offered")
            continue
        ids[uuid] = number
        found.append(Gpu(number, _short(name), _natural(memory) << 20, groups=(numa(bus),)))
    if not lines:
        left_out.append("nvidia-smi says nothing of any GPU")
    users: dict[str, list[int]] = {}
    for line in apps.splitlines():
        uuid, _, pid = line.partition(",")
        if uuid.strip() in ids and _natural(pid.strip()):
            users.setdefault(ids[uuid.strip()], []).append(_natural(pid.strip()))
    return _Found(tuple(found), users, tuple(left_out[:8]), is_known)


def _numa(bus: str, root: str) -> int:
    # nvidia-smi writes the domain with eight digits, /sys with four, and in lower case.
    domain, _, rest = bus.lower().partition(":")
    text = _text(f"{root}/sys/bus/pci/devices/{domain[-4:]}:{rest}/numa_node")
    return _natural(text)


# ---------------------------------------------------------------- what /sys says of AMD's


def _amd_told(root: str) -> dict[str, Any]:
    """The GPUs that the library of AMD numbers, in its order, and the processes that have memory on them.

    Linux, include/uapi/linux/kfd_sysfs.h; ROCR_VISIBLE_DEVICES counts the nodes that have SIMDs.
    """
    top = f"{root}/sys/class/kfd/kfd"
    gpus: list[list[Any]] = []
    users: dict[str, list[int]] = {}
    left_out: list[str] = []
    numbers: dict[str, str] = {}
    for node in sorted(filter(str.isdecimal, _names(f"{top}/topology/nodes")), key=int):
        path = f"{top}/topology/nodes/{node}"
        properties = dict(
            line.split(None, 1) for line in _text(f"{path}/properties").splitlines() if " " in line
        )
        gpu_id = _text(f"{path}/gpu_id").strip()
        if not _natural(properties.get("simd_count", "")) or not _natural(gpu_id):
            continue
        number = str(len(numbers))
        numbers[gpu_id] = number
        device = f"{root}/sys/class/drm/renderD{_natural(properties.get('drm_render_minor', ''))}/device"
        memory = _natural(_text(f"{device}/mem_info_vram_total"))
        if 0 < memory < AMD_MEMORY_MIN:
            left_out.append(
                f"GPU {number} has {memory >> 20} MiB of its own: taken for a part of a processor"
            )
            continue
        name = _text(f"{device}/product_name").strip() or _text(f"{path}/name").strip()
        gpus.append([number, _short(name), memory, _natural(_text(f"{device}/numa_node"))])
    for pid in filter(str.isdecimal, _names(f"{top}/proc")):
        for gpu_id, number in numbers.items():
            if _natural(_text(f"{top}/proc/{pid}/vram_{gpu_id}")):
                users.setdefault(number, []).append(int(pid))
    return {"gpus": gpus, "users": users, "left_out": left_out}


def _amd_understood(said: str) -> _Found:
    try:
        told = json.loads(said)
    except ValueError:
        return _Found(left_out=("the GPUs of this node could not be read",), is_known=False)
    gpus = tuple(Gpu(number, name, memory, groups=(node,)) for number, name, memory, node in told["gpus"])
    return _Found(gpus[:_GPUS_MAX], told["users"], tuple(told["left_out"][:8]))


# ---------------------------------------------------------------- leaves


def _names(directory: str) -> Iterable[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return ()


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(_FILE_BYTES_MAX)
    except OSError:
        return ""


def _natural(text: str) -> int:
    """A number as it is written here, 0 for what is none, such as "[N/A]" and "-1"."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else 0


def _short(text: str) -> str:
    return visible(text.strip()[:_SAID_CHARS_MAX])
