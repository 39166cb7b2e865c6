"""What starts the units of all users, alone: which of them it starts, by what systemctl says of each."""

from __future__ import annotations

from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "systemd" / "roundq-users"


@pytest.fixture
def users() -> ModuleType:
    made = ModuleType("roundq_users")
    # No compiled copy beside a script of the installation.
    exec(compile(SCRIPT.read_text(), str(SCRIPT), "exec"), vars(made))
    return made


def block(names: str, *, load: str = "loaded", active: str = "inactive") -> str:
    identity = names.split()[0]
    return f"Id={identity}\nNames={names}\nLoadState={load}\nActiveState={active}\n"


def test_a_unit_with_another_name_keeps_nobody_from_being_started(
    users: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An admin may have linked it to a unit of his own; it is started, as the others are."""
    shown = "\n".join(
        [
            block("special@ann.service roundq@ann.service"),
            block("roundq@bob.service", active="failed"),
            block("roundq@eve.service", load="masked"),
            block("roundq@old.service", active="active"),
        ]
    )
    started: list[str] = []

    def run(command: list[str], **_: object) -> CompletedProcess[str]:
        if command[1] == "show":
            return CompletedProcess(command, 0, shown)
        started.extend(command[command.index("--") + 1 :])
        return CompletedProcess(command, 0)

    monkeypatch.setattr(users.subprocess, "run", run)
    assert users.start(["ann", "bob", "eve", "old"], False) == 0
    assert started == ["roundq@ann.service", "roundq@bob.service"]
    assert capsys.readouterr().out == "starting: ann bob\n"
