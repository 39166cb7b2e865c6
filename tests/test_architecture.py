"""Promises about ARCHITECTURE.md and the layers it draws: it names what there is, and imports point down."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "roundq"
PAGE = (ROOT / "ARCHITECTURE.md").read_text()
#: From the bottom up.
LAYERS = ("words", "world", "records", "actors", "faces")
#: Without a word of its own: what a package says of itself.
PLAIN = {"__init__", "__main__", "dirjobs", "sweep", *(f"{layer}/__init__" for layer in LAYERS)}
MODULES = sorted(str(path.relative_to(SOURCE).with_suffix("")) for path in SOURCE.rglob("*.py"))


def test_every_module_is_named_and_every_name_is_a_module() -> None:
    """In backquotes, with its layer."""
    named = set(re.findall(rf"`((?:{'|'.join(LAYERS)})/[\w/]+)`", PAGE))
    assert named == set(MODULES) - PLAIN


def test_every_module_is_told_in_its_layer() -> None:
    """Each stands in the paragraph that begins with the name of its folder."""
    for layer in LAYERS:
        paragraph = PAGE.partition(f"\n**{layer}**")[2].partition("\n\n")[0]
        own = {name for name in MODULES if name.startswith(f"{layer}/")} - PLAIN
        assert set(re.findall(r"`(\w+/[\w/]+)`", paragraph)) == own


def names_of(path: Path) -> set[str]:
    """The functions and classes of a module, and `Class.method`."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return found


def test_every_function_on_the_way_of_a_job_exists() -> None:
    """`module.function` or `Class.method`."""
    way = PAGE.partition("## The way of a job")[2].partition("\n## ")[0]
    known: set[str] = set()
    for path in SOURCE.rglob("*.py"):
        names = names_of(path)
        known |= names | {f"{path.stem}.{name}" for name in names}
    told = re.findall(r"`(\w+\.\w+)`", way)
    assert len(told) > 15
    assert set(told) <= known


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """A module imports from its own layer and from those below it."""
    layer = module.partition("/")[0]
    # The entry point of the package is the face.
    height = LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
    for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text())):
        imported = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported = [node.module or ""]
        for name in imported:
            parts = name.split(".")
            if parts[0] == "roundq" and len(parts) > 1:
                assert LAYERS.index(parts[1]) <= height, name


def test_the_words_of_the_table_are_told_once() -> None:
    """A word has one meaning, and so one line."""
    table = PAGE.partition("| word | what it means |")[2].partition("\n\n")[0]
    words = re.findall(r"^\| (\w+) \|", table, re.MULTILINE)
    assert len(words) > 20
    assert len(words) == len(set(words))
