"""Makes roundq runnable at /opt/rq inside every node, wherever the checkout and the interpreter are.

Users of a node must be able to read and run all of it, but the checkout, the virtual environment and the
interpreter that run the tests may lie in private directories. So /opt in a node is built here:

    /opt/rq/bin/python   the interpreter of the tests; it finds all below by itself, without any variable
    /opt/rq/bin/rq       the command line (and `noinet`, `ledger`, see there)
    /opt/rq/code/        a copy of roundq as it was when the test run began
    /opt/rq/packages/N   the packages the tests see (bound; copied if their files are private)
    /opt/rq/base         the installation of the interpreter (bound)
    /opt/ledger          where jobs write down when they ran: one directory for all nodes, without NFS (bound)

/opt/rq is a virtual environment, so that `sys.executable -m roundq` started by anyone in it works as well.
Called by box.
"""

from __future__ import annotations

import atexit
import compileall
import functools
import os
import shutil
import stat
import sys
import sysconfig
from dataclasses import dataclass

from tests.cluster import kernel
from tests.cluster.scratch import Scratch

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
INSIDE = "/opt/rq"
PATH = f"{INSIDE}/bin:/usr/local/bin:/usr/bin:/bin"

# Modules of the test cluster that are commands in a node.
TOOLS = ("noinet", "ledger")


@dataclass(frozen=True)
class Runtime:
    """What /opt is made of: a directory, and what is bound into it."""

    opt: str
    binds: tuple[tuple[str, str], ...]

    def mount(self, ledger: str) -> None:
        """Make it /opt of this mount namespace, which must be private."""
        # Below the scratch directory first: what is bound may itself come from the /opt that gets hidden.
        for source, target in (*self.binds, (ledger, "ledger")):
            kernel.bind(source, os.path.join(self.opt, target))
        kernel.bind(self.opt, "/opt", recursive=True)


@functools.cache
def runtime() -> Runtime:
    """The one runtime of this process, removed when it ends."""
    scratch = Scratch()
    atexit.register(scratch.remove)
    opt = os.path.join(scratch.path, "opt")
    binds = [(sys.base_prefix, "rq/base")]
    for directory in ("bin", "code", "base", "packages"):
        os.makedirs(os.path.join(opt, "rq", directory))
    os.mkdir(os.path.join(opt, "ledger"))
    paths = [f"{INSIDE}/code"]
    for number, packages in enumerate(_package_directories()):
        there = f"rq/packages/{number}"
        os.mkdir(os.path.join(opt, there))
        if _is_public(packages):
            binds.append((packages, there))
        else:
            _copy(packages, os.path.join(opt, there))
        paths.append(f"/opt/{there}")
    _copy_roundq(os.path.join(opt, "rq/code"))
    _make_environment(os.path.join(opt, "rq"), paths)
    _publish(scratch.path)
    return Runtime(opt, tuple(binds))


def _make_environment(root: str, paths: list[str]) -> None:
    """A virtual environment by hand: venv would ask the interpreter, which is not there yet."""
    real = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    interpreter = f"{INSIDE}/base/{os.path.relpath(real, os.path.realpath(sys.base_prefix))}"
    _write(
        f"{root}/pyvenv.cfg", f"home = {os.path.dirname(interpreter)}\ninclude-system-site-packages = false\n"
    )
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = f"{root}/lib/{version}/site-packages"
    os.makedirs(site)
    _write(f"{site}/roundq.pth", "".join(path + "\n" for path in paths))
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and sys.base_prefix != "/usr":
        # The library of the interpreter is not where it was linked to. `exec -a` keeps sys.executable.
        library = f"{INSIDE}/base/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
        _script(
            f"{root}/bin/python",
            f'#!/bin/bash\nexport LD_LIBRARY_PATH={library}\nexec -a "$0" {interpreter} "$@"\n',
        )
    else:
        os.symlink(interpreter, f"{root}/bin/python")
    os.symlink("python", f"{root}/bin/python3")
    start = "import sys\n\nfrom roundq.faces.cli import main\n\nsys.exit(main())\n"
    _script(f"{root}/bin/rq", f"#!{INSIDE}/bin/python\n{start}")
    for tool in TOOLS:
        shutil.copy(os.path.join(os.path.dirname(__file__), f"{tool}.py"), f"{root}/code/{tool}.py")
        _script(
            f"{root}/bin/{tool}", f'#!/bin/sh\nexec {INSIDE}/bin/python -S {INSIDE}/code/{tool}.py "$@"\n'
        )


def _package_directories() -> list[str]:
    names = ("site-packages", "dist-packages")
    return [path for path in sys.path if os.path.basename(path) in names and os.path.isdir(path)]


def _copy_roundq(target: str) -> None:
    source = os.path.join(CHECKOUT, "roundq")
    if not os.path.isdir(source):
        return
    # Users cannot write byte code beside it; without any, every rq would compile all it imports.
    compileall.compile_dir(source, quiet=2)
    _copy(source, os.path.join(target, "roundq"))


def _copy(source: str, target: str) -> None:
    # With times, or the byte code would be out of date.
    shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True)


def _is_public(path: str) -> bool:
    """May everybody read all of it?"""
    for directory, _, files in os.walk(path):
        if os.stat(directory).st_mode & 0o005 != 0o005:
            return False
        for file in files:
            mode = os.lstat(os.path.join(directory, file)).st_mode
            if not stat.S_ISLNK(mode) and not mode & 0o004:
                return False
    return True


def _publish(path: str) -> None:
    """Let everybody read all of it and nobody but root write."""
    for directory, _, files in os.walk(path):
        os.chmod(directory, 0o755)
        for file in files:
            name = os.path.join(directory, file)
            mode = os.lstat(name).st_mode
            if not stat.S_ISLNK(mode):
                os.chmod(name, 0o755 if mode & 0o100 else 0o644)


def _write(path: str, text: str) -> None:
    with open(path, "w") as f:
        f.write(text)


def _script(path: str, text: str) -> None:
    _write(path, text)
    os.chmod(path, 0o755)
