"""A cluster in a box: `Cluster` and its `Node`s.

    with Cluster(nodes=3, users=("ann", "bob"), fsopts="acdirmin=2,acdirmax=4") as c:
        c["n1"].run(["rq", "list"], user="ann")
        c["n2"].fault(op="rename", match="waiting/", errno="ENOENT", when="after", count=1)
        c["n2"].partition(); c["n2"].heal()
        c["n3"].crash(); c["n3"].start()

A node is a set of UTS, PID, mount, IPC and network namespaces with its own host name, /proc, /tmp, /run,
/dev/shm, /etc/{passwd,group,hostname,hosts,machine-id}, boot id and cgroup. Its network has nothing but lo.
All nodes share one /home, which each sees through its own nfsim. Processes of a node are children of the test
and run under real user ids.

Nothing is mounted outside of the namespaces, so nothing is left mounted. Every helper holds the end of a pipe
that breaks when the test process dies, and dies then too; what was frozen at that time is swept by the next
run (scratch). Needs root, /dev/fuse and cgroup2: `missing()` says what is not there.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tests.cluster import accounts, kernel, scratch
from tests.cluster.cache import Options
from tests.cluster.node import Node
from tests.cluster.requirements import missing
from tests.cluster.runtime import runtime
from tests.cluster.scratch import Scratch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class Cluster:
    """Some nodes, some users, one /home.

    nodes:     how many (n1, n2, ...) or their names
    users:     names; each gets an account on all nodes and a home
    groups:    more groups and their members, as {"lab": ("ann", "bob")}
    fs:        "nfs"; "loose": two nodes may both rename one file, see loose; or "local": /home without
               anything between, for comparison
    fsopts:    mount options of the homes, see cache.Options
    home_mode: of the homes that are made
    env:       added to the environment of every process
    binds:     more things to mount inside, {outside: inside}; what is mounted on must exist
    config:    /etc/roundq.toml of all nodes, see configure(); None: /etc is that of the machine
    memory:    bytes of memory that every node seems to have, all of it always available; 0: those it has
    """

    def __init__(
        self,
        nodes: int | Sequence[str] = 3,
        users: Sequence[str] = ("ann", "bob", "cyd"),
        *,
        groups: Mapping[str, Sequence[str]] | None = None,
        fs: str = "nfs",
        fsopts: str | Mapping[str, Any] = "",
        home_mode: int = 0o755,
        env: Mapping[str, str] | None = None,
        binds: Mapping[str, str] | None = None,
        config: str | None = None,
        memory: int = 0,
    ) -> None:
        self._fsopts = fsopts
        self.options()  # A misspelled option is told here, not in the log of a helper.
        if reason := missing():
            raise RuntimeError(f"no cluster without {reason}")
        if fs not in ("nfs", "loose", "local"):
            raise ValueError(f"fs is nfs, loose or local, not {fs!r}")
        scratch.sweep()
        runtime()
        self.fs = fs
        self.env = dict(env or {})
        self.binds = dict(binds or {})
        self.memory = memory
        #: On these every process of a node may run.
        self.cpus = kernel.one_cpu_per_core()
        self.forking = threading.RLock()
        self.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.owner, self._owner_write = os.pipe()
        self._scratch = Scratch(cgroup=True)
        self.directory = self._scratch.path
        self.cgroup = self._scratch.cgroup
        self.server = self._make_directory("server", 0o755)
        self.ledger = self._make_directory("ledger", 0o1777)
        self.users = accounts.make_users(users, groups or {})
        accounts.make_homes(self.server, self.users, home_mode)
        accounts.write_databases(self._make_directory("etc", 0o755), self.users, groups or {})
        self.etc = None if config is None else self._copy_etc(config)
        names = [f"n{i + 1}" for i in range(nodes)] if isinstance(nodes, int) else nodes
        self.nodes = {name: Node(self, name) for name in names}

    def start(self) -> Cluster:
        for node in self:
            node.start()
        return self

    def stop_nodes(self, grace_s: float = 0.0) -> None:
        """Shut all nodes down; homes and logs stay."""
        for node in self:
            node.stop(grace_s)

    def stop(self) -> None:
        """Stop all nodes and remove every trace."""
        if self._owner_write < 0:
            return
        try:
            self.stop_nodes()
        finally:
            os.close(self._owner_write)  # What has not gone by now goes now.
            self._owner_write = -1
            os.close(self.owner)
            os.close(self.pid_namespace)
            self._scratch.remove()

    def __enter__(self) -> Cluster:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def user(self, name: str) -> accounts.User:
        return accounts.ROOT if name == "root" else self.users[name]

    def configure(self, config: str) -> None:
        """Write /etc/roundq.toml anew, for all nodes at once."""
        if self.etc is None:
            raise RuntimeError("this cluster was made without a config, and has the /etc of the machine")
        new = os.path.join(self.etc, "roundq.toml.new")
        with open(new, "w") as file:
            file.write(config)
        os.chmod(new, 0o644)
        os.rename(new, os.path.join(self.etc, "roundq.toml"))

    def options(self) -> Options:
        """The mount options that nodes start with."""
        return Options.parse(self._fsopts)

    def home(self, user: str) -> str:
        """A user's home as the server has it: the truth, without any cache."""
        return os.path.join(self.server, user)

    def _copy_etc(self, config: str) -> str:
        self.etc = os.path.join(self.directory, "etc-of-nodes")
        shutil.copytree("/etc", self.etc, symlinks=True)
        self.configure(config)
        return self.etc

    def _make_directory(self, name: str, mode: int) -> str:
        path = os.path.join(self.directory, name)
        os.mkdir(path)
        os.chmod(path, mode)
        return path
