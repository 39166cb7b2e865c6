"""Run a command that may not touch the network: `python -S noinet.py COMMAND [ARGUMENT...]`.

A seccomp filter, inherited by all that the command starts, kills a process (SIGSYS) at the moment it calls
socket() or socketpair() with any family but AF_UNIX and AF_NETLINK. It needs no privilege and cannot be taken
off again. A file of its own that imports only the standard library: it runs as a script inside a node.
"""

from __future__ import annotations

import ctypes
import os
import platform
import socket
import struct
import sys

PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

LOAD_WORD = 0x20
JUMP_IF_EQUAL = 0x15
RETURN = 0x06
KILL_PROCESS = 0x80000000
ALLOW = 0x7FFF0000

# Where struct seccomp_data keeps the number of the call and its first argument.
NUMBER_AT = 0
FIRST_ARGUMENT_AT = 16 if sys.byteorder == "little" else 20

# The numbers of socket() and socketpair().
CALLS = {
    "x86_64": (41, 53),
    "aarch64": (198, 199),
    "riscv64": (198, 199),
    "ppc64le": (326, 333),
    "s390x": (359, 360),
}


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def forbid_network() -> None:
    """Kill this process, and all it starts, when it asks for a network socket."""
    call, call_pair = CALLS[platform.machine()]
    program = (
        _step(LOAD_WORD, 0, 0, NUMBER_AT),
        _step(JUMP_IF_EQUAL, 1, 0, call),
        _step(JUMP_IF_EQUAL, 0, 4, call_pair),
        _step(LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT),
        _step(JUMP_IF_EQUAL, 2, 0, socket.AF_UNIX),
        _step(JUMP_IF_EQUAL, 1, 0, socket.AF_NETLINK),
        _step(RETURN, 0, 0, KILL_PROCESS),
        _step(RETURN, 0, 0, ALLOW),
    )
    code = ctypes.create_string_buffer(b"".join(program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", len(program), ctypes.addressof(code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter_), 0, 0
    ):
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: noinet.py COMMAND [ARGUMENT...]")
    forbid_network()
    try:
        os.execvp(sys.argv[1], sys.argv[1:])
    except OSError as error:
        sys.exit(f"noinet: {sys.argv[1]}: {error.strerror}")
