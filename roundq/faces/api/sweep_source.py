"""Where the class of a sweep's tasks is found: `MODULE:NAME` or `FILE.py:NAME`, here and on other nodes.

What is imported is the user's own code: its errors are told as such, with the lines that are his.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from contextvars import ContextVar
from types import ModuleType
from typing import Any

from roundq.words.errors import RoundqError, UsageError

_HINT = "give MODULE:NAME, or FILE.py:NAME, such as fits:Fit or scans/fits.py:Fit"
#: Of a traceback, the last so many frames are shown.
_FRAMES = 4
#: Whether a source is being imported.
_loading: ContextVar[bool] = ContextVar("_loading", default=False)


class SourceError(UsageError):
    """A module of the user cannot be imported, or his code failed while it told of the sweep."""


def split(target: str) -> tuple[str, str]:
    """The source, and the name in it. Raises UsageError."""
    source, colon, name = target.rpartition(":")
    if not colon or not source or not name:
        raise UsageError(f'"{target}" says not what is to be swept', _HINT)
    return source, name


def is_file(source: str) -> bool:
    """Whether a source is a file, and not a module."""
    return source.endswith(".py") or "/" in source


def module_name(source: str) -> str:
    """What the module of a source is called."""
    return os.path.basename(source).removesuffix(".py") if is_file(source) else source


def load(source: str, directory: str) -> ModuleType:
    """The module of a source, as seen from a directory. Raises SourceError with what its code raised."""
    where = os.path.dirname(os.path.join(directory, source)) if is_file(source) else directory
    # As if Python had been started there.
    if where not in sys.path:
        sys.path.insert(0, where)
    importlib.invalidate_caches()
    outer = _loading.set(True)
    try:
        if not is_file(source):
            return importlib.import_module(source)
        return _of_file(os.path.join(directory, source))
    except RoundqError as error:
        raise SourceError(f"{source}: {error}", error.hint, lines_of(error)) from error
    except (Exception, SystemExit) as error:
        hint = None
        if isinstance(error, ModuleNotFoundError) and error.name == source.partition(".")[0]:
            hint = f"it is looked for in {where}, and where {sys.executable} finds modules"
        said = f"{type(error).__name__}: {error}"
        raise SourceError(f"{source} cannot be imported: {said}", hint, lines_of(error)) from error
    finally:
        _loading.reset(outer)


def places() -> list[str]:
    """Where this process looks for modules, in absolute paths. Raises OSError."""
    return [os.path.abspath(place) for place in sys.path if isinstance(place, str)]


def look_in(places: Sequence[str]) -> None:
    """From now on modules are looked for in these places, and then where they were before."""
    sys.path[:] = [*places, *(place for place in sys.path if place not in places)]


def check_imported() -> None:
    """Raises UsageError while a source is being imported: what it submits would be submitted again by each
    of its tasks."""
    if _loading.get():
        raise UsageError(
            "it submits a sweep while it is imported, and each task imports it",
            "put what submits it below: if __name__ == '__main__':",
        )


def _of_file(path: str) -> ModuleType:
    name = module_name(path)
    known = sys.modules.get(name)
    if known is not None and getattr(known, "__file__", None) == path:
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{path} is no file of Python", _HINT)
    module = importlib.util.module_from_spec(spec)
    # Before it is executed, as an import does it: dataclasses look there.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def found(module: ModuleType, name: str, source: str) -> Any:
    """What a module has under a name, which may have dots. Raises UsageError."""
    value: Any = module
    for part in name.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            from difflib import get_close_matches

            near = get_close_matches(part, [word for word in vars(module) if not word.startswith("_")], n=1)
            hint = f"did you mean {source}:{near[0]}?" if near else _HINT
            raise UsageError(f"{source} has nothing called {name}", hint) from None
    return value


def lines_of(error: BaseException) -> Sequence[str]:
    """Where in the user's code an error comes from: the last lines of its traceback that are not ours."""
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    foreign = (ours, "<frozen", os.path.dirname(importlib.__file__))
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(foreign) and "/roundq/words/" not in frame.filename
    ]
    said = []
    for frame in frames[-_FRAMES:]:
        said += [f"{frame.filename}:{frame.lineno} in {frame.name}", f"    {frame.line}"]
    if isinstance(error, SyntaxError) and error.filename:
        said += [f"{error.filename}:{error.lineno}", f"    {(error.text or '').strip()}"]
    return said
