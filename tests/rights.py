"""What some tests need of the machine: without it they are skipped, which tests/conftest.py forbids in CI."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess

import pytest


def need(has_it: bool, what: str) -> None:
    """Skips the test that calls unless the machine has it."""
    if not has_it:
        pytest.skip(f"needs {what}")


def need_root() -> None:
    """For tests with files of several users."""
    need(os.geteuid() == 0, "root to be several users")


def need_mounts() -> None:
    """For tests that mount a file system, in a namespace of their own: `in_namespace`."""
    need(_may_mount(), "root to mount file systems")


def need_faketime() -> None:
    """For tests of clocks that jump."""
    need(shutil.which("faketime") is not None, "faketime: apt-get install faketime")


def need_strace() -> None:
    """For tests that watch what a process asks of the kernel."""
    need(_may_trace(), "strace (apt-get install strace), and the right to trace one's own processes")


@functools.cache
def _may_trace() -> bool:
    try:
        return subprocess.run(["strace", "-qq", "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@functools.cache
def _may_mount() -> bool:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def in_namespace(script: str, *words: str) -> list[str]:
    """A command that runs a shell script whose mounts nobody else sees, with these words as $1, $2 ..."""
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *words]
