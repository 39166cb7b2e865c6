"""The configuration: /etc/roundq.toml, then the user's file, then RQ_* variables; later ones win.

Read by every command and, again and again, by the daemon. Without any file and variable nothing
is imported to read them, and pydantic only for values that are not plainly right: `rq run` would
pay 15 ms for it. The keys are listed in roundq.toml(5); a value that is not allowed is an error that
says where it stands, and so is an unknown key, since a slip would change nothing silently. Some keys hold
for all users, and only the system's file may set them.
"""

from __future__ import annotations

import errno
import functools
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from roundq.words.errors import ConfigError, UsageError
from roundq.words.limits import Limits, Shares
from roundq.world import config_tables as tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pydantic_core import SchemaValidator

    #: What says where a key stands: the file and line, or the variable.
    Where = Callable[[tuple[str, ...]], str]

ETC = "/etc/roundq.toml"
#: An honest file has a page of text.
_FILE_BYTES_MAX = 1 << 18
_STALE_TRIES_MAX = 3
_SHOWN_CHARS_MAX = 60
_HOMES_MAX = 64
_CORES_MAX = 100_000
_LEASE_MIN_S, _HALF_LIFE_MIN_S = 2, 60
_POLL_MIN_S, _POLL_MAX_S, _GRACE_MAX_S = 0.01, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Config:
    """What is configured for this user on this node.

    `homes` are absolute directories whose entries are homes, or patterns of such directories (glob(7));
    by default the parent of one's own home, or /home if that is the root directory;
    `cores` how many cores of this node to offer: a number, "physical" or "logical" for all of them;
    times are in seconds and `max_output` in bytes, 0 for no limit; `history_s` is 0 for ever, `lease_s` for
    no lease, `sendmail` is the program that sends mail,
    `settle_s` is 0 where a rename has one winner; `commons` is the directory in which cards are published
    for users who cannot read each other's homes, empty for none; `card_names` is whether names of jobs stand
    on the cards there. `limits` are what users may have at most, `shares` their weights; after `half_life_s`
    their usage counts for half; `licenses` are how many of each name the whole cluster has, `node_licenses`
    those that only this node has. `tmp` is the directory in which jobs get directories of their own, empty
    for the usual one; `features` are words that `--need` finds beside those of the processors; `gpus` the ids
    of those that are offered, None for all.
    """

    homes: tuple[str, ...]
    cores: int | str = "physical"
    poll_min_s: float = 1.0
    poll_max_s: float = 15.0
    keep_for_s: float = 14 * 86_400.0
    history_s: float = 0.0
    sendmail: str = "/usr/sbin/sendmail"
    auto_start: bool = True
    max_output: int = 1 << 20
    grace_s: float = 30.0
    patience_s: float = 600.0
    settle_s: float = 0.0
    lease_s: float = 0.0
    commons: str = ""
    card_names: bool = False
    limits: Limits = field(default_factory=Limits)
    shares: Shares = field(default_factory=Shares)
    half_life_s: float = 7 * 86_400.0
    licenses: Mapping[str, int] = field(default_factory=dict)
    node_licenses: Mapping[str, int] = field(default_factory=dict)
    tmp: str = ""
    features: tuple[str, ...] = ()
    gpus: tuple[str, ...] | None = None


class _Setting(NamedTuple):
    value: Any
    #: For errors: names the file and line, or the variable, that says so.
    where: Callable[[], str]


def load(environ: Mapping[str, str], home: str, *, etc: str = ETC, node: str | None = None) -> Config:
    """The configuration of the user with this home on the node of this name.

    `[nodes.NAME]` of a file wins over the `cores` above it, but not over a later source. Raises
    `ConfigError` for a value that is not allowed, an unknown key, or a file that cannot be trusted or read.
    """
    settings = _from_files(((etc, None), (_user_file(environ, home), (0, os.geteuid()))), node)
    # An empty variable is how a shell script says that there is none.
    variables = {name: text for name in _VARIABLES if (text := environ.get(name))}
    if variables:
        settings.update(_from_variables(variables))
    return _of(settings, home)


def without_user(home: str, *, etc: str = ETC, node: str | None = None) -> Config:
    """What the system's file says, or what is standard if that is wrong, too: for commands that must not wait
    until somebody has mended a user's own configuration."""
    try:
        return _of(_from_files(((etc, None),), node), home)
    except ConfigError:
        return _of({}, home)


def _from_files(files: Iterable[tuple[str, tuple[int, ...] | None]], node: str | None) -> dict[str, _Setting]:
    settings: dict[str, _Setting] = {}
    for path, owners in files:
        data = _read(path, owners)
        if data is not None:
            # Only of a user's own file it matters whose it is.
            settings.update(_from_file(path, data, node, is_of_user=owners is not None))
    return settings


def _of(settings: Mapping[str, _Setting], home: str) -> Config:
    fields = {_SETTING_KEYS[key].field: setting.value for key, setting in settings.items()}
    parent = os.path.dirname(os.path.normpath(home))
    # Root's home is /root as a rule, and its neighbours are not the directories of the file system.
    config = Config(**{"homes": ("/home" if parent == "/" else parent,), **fields})
    if config.poll_min_s > config.poll_max_s:
        least, most = (settings.get(key) for key in ("poll_min", "poll_max"))
        where = [setting.where() for setting in (least, most) if setting is not None]
        raise ConfigError(
            f"{', '.join(where)}: poll_min is {config.poll_min_s:g} seconds, more than poll_max,"
            f" {config.poll_max_s:g} seconds{'' if most else ' (the default)'}"
        )
    return config


class Live:
    """The configuration of a process that goes on when somebody breaks a file.

    Raises `ConfigError` when it is made, and never later.
    """

    def __init__(
        self, environ: Mapping[str, str], home: str, *, etc: str = ETC, node: str | None = None
    ) -> None:
        self._load = functools.partial(load, environ, home, etc=etc, node=node)
        self._files = (etc, _user_file(environ, home))
        self._stamps = self._look()
        self._error: str | None = None
        self.config = self._load()

    def refresh(self) -> tuple[Config, str | None]:
        """The last good configuration, and what is wrong with the present files, if anything.

        Files are read only if their time, size or inode changed: else this costs two stat(2).
        """
        # Looked at before reading: a change during the read is a change at the next call.
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self.config = self._load()
                self._error = None
            except ConfigError as error:
                self._error = str(error)
        return self.config, self._error

    def _look(self) -> list[tuple[int, int, int] | int]:
        return [_stamp(path) for path in self._files]


def _stamp(path: str) -> tuple[int, int, int] | int:
    try:
        found = os.stat(path)
    except OSError as error:
        return error.errno or errno.EIO
    return found.st_mtime_ns, found.st_size, found.st_ino


# ---------------------------------------------------------------- sources


def _user_file(environ: Mapping[str, str], home: str) -> str:
    # The XDG base directory specification: a relative path is to be ignored.
    directory = environ.get("XDG_CONFIG_HOME", "")
    if not os.path.isabs(directory):
        directory = os.path.join(home, ".config")
    return os.path.join(directory, "roundq.toml")


def _read(path: str, owners: tuple[int, ...] | None) -> bytes | None:
    """The content of a file, None if there is none. Raises `ConfigError` if it cannot be read or trusted."""
    for tries in range(_STALE_TRIES_MAX, 0, -1):
        try:
            # Not blocking: whoever put a pipe there must not stop us.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            try:
                return _read_open(path, descriptor, owners)
            finally:
                os.close(descriptor)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ESTALE or tries == 1:
                raise ConfigError(f"{path}: it cannot be read: {os.strerror(error.errno or 0)}") from None
    return None


def _read_open(path: str, descriptor: int, owners: tuple[int, ...] | None) -> bytes:
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{path}: it is not a regular file")
    if owners is not None and found.st_uid not in owners:
        raise ConfigError(
            f"{path}: it belongs to user number {found.st_uid}, neither to you nor to root",
            "take the file over with chown, or remove it",
        )
    if found.st_mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: everybody may write to it", f"chmod o-w {path}")
    with open(descriptor, "rb", closefd=False) as file:
        data = file.read(_FILE_BYTES_MAX + 1)
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError(f"{path}: it is larger than {_FILE_BYTES_MAX} bytes")
    return data


def _from_file(path: str, data: bytes, node: str | None, *, is_of_user: bool = False) -> dict[str, _Setting]:
    """What a file sets on this node, by key."""
    import tomli

    try:
        text = data.decode()
        values = tomli.loads(text)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: it is not UTF-8") from None
    except tomli.TOMLDecodeError as error:
        found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", str(error), re.DOTALL)
        why, line_ = (found[1], found[2]) if found else (str(error), None)
        where = f"{path}, line {line_ or len(text.splitlines())}"
        raise ConfigError(f"{where}: it is not TOML: {_visible(why)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: it is nested too deeply") from None
    except ValueError:
        # That of int(), for a number of thousands of digits; its errors of its own were met above.
        raise ConfigError(f"{path}: a number or a date in it is none") from None

    def where_is(keys: tuple[str, ...]) -> str:
        line = _line_of(text, keys)
        return path if line is None else f"{path}, line {line}"

    if is_of_user:
        _check_rights(values, where_is)
    checked = _checked(values, where_is)
    of_nodes = checked.pop(_NODES, {})
    _check_licenses(checked.get("licenses", {}), of_nodes, where_is)
    settings = {key: _Setting(value, functools.partial(where_is, (key,))) for key, value in checked.items()}
    for key, value in of_nodes.get(node, {}).items():
        setting = key if _NODE_KEYS[key] is _KEYS.get(key) else f"{_NODES}.{key}"
        settings[setting] = _Setting(value, functools.partial(where_is, (_NODES, str(node), key)))
    return settings


def _check_licenses(of_all: Mapping[str, int], of_nodes: Mapping[str, Any], where_is: Where) -> None:
    """Raises `ConfigError` for a name that the cluster and a node have: no job says which it means."""
    for node, table in of_nodes.items():
        for name in table.get("licenses", {}):
            if name in of_all:
                where = where_is((_NODES, node, "licenses", name))
                raise ConfigError(
                    f"{where}: {name} is a license of the whole cluster already", "give it another name here"
                )


def _check_rights(values: dict[str, Any], where_is: Where) -> None:
    """Raises `ConfigError` if a user's file sets what only the system's file may."""
    of_nodes = values.get(_NODES)
    tables: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), values)]
    if isinstance(of_nodes, dict):
        tables += [((_NODES, name), table) for name, table in of_nodes.items() if isinstance(table, dict)]
    for above, table in tables:
        for key in table:
            if key in _KEYS and _KEYS[key].system_only:
                raise ConfigError(
                    f"{where_is((*above, key))}: {key} holds for all users: only {ETC} may set it",
                    f"take that line out; the administrator may write it into {ETC}",
                )


def _from_variables(variables: Mapping[str, str]) -> dict[str, _Setting]:
    names = {_VARIABLES[name]: name for name in variables}
    values = {_VARIABLES[name]: _from_text(_VARIABLES[name], text) for name, text in variables.items()}
    checked = _checked(values, lambda keys: names[keys[0]])
    return {key: _Setting(value, functools.partial(names.__getitem__, key)) for key, value in checked.items()}


_TRUTH = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _from_text(key: str, text: str) -> object:
    """A variable's text as the value that a file would have; as it is if it is none, for the error."""
    if key == "homes":
        return text.split(":")
    if _KEYS[key].read is _truth:
        return _TRUTH.get(text.lower(), text)
    # Bounded, since int() refuses thousands of digits in words of its own.
    if key == "cores" and re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    if key in _SECONDS and re.fullmatch(r"[0-9]{1,18}(\.[0-9]{0,18})?", text):
        return float(text)
    return text


# ---------------------------------------------------------------- values


def _checked(values: dict[str, Any], where_is: Where) -> dict[str, Any]:
    """The values as `Config` has them. Raises `ConfigError` for the first that is not allowed.

    pydantic validates them; but what is plainly right does not wait for it to be imported.
    """
    try:
        return _plain(values)
    except (ValueError, KeyError, AttributeError):
        pass
    from pydantic_core import ValidationError

    try:
        checked: dict[str, Any] = _validator().validate_python(values)
        return checked
    except ValidationError as error:
        finding = error.errors(include_url=False)[0]
    keys = tuple(map(str, finding["loc"]))
    why = finding.get("ctx", {}).get("error", "")
    if isinstance(why, tables.Within):
        _raise_within(why, keys, where_is)
    name = f"{where_is(keys)}: {_visible('.'.join(keys))}"
    if finding["type"] == "extra_forbidden":
        known = [*_NODE_KEYS] if len(keys) > 1 else [*_KEYS, _NODES]
        raise ConfigError(f"{name} is not a key of roundq", _suggestion(keys[-1], known))
    keys_here = _NODE_KEYS if len(keys) > 1 else _KEYS
    allowed = keys_here[keys[-1]].allowed if finding["type"] == "value_error" else _ALLOWED_NODES
    found = _found(finding["input"])
    raise ConfigError(f"{name} is {found}{f' ({why})' if str(why) else ''}; it must be {allowed}")


def _raise_within(why: tables.Within, above: tuple[str, ...], where_is: Where) -> NoReturn:
    keys = (*above, *why.keys)
    name = f"{where_is(keys)}: {_found_text('.'.join(keys))}"
    if why.known:
        raise ConfigError(f"{name} is not a key of roundq", _suggestion(keys[-1], why.known))
    raise ConfigError(f"{name} is {_found(why.value)}; it must be {why.allowed}")


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """What `_validator` makes of values that are allowed. Others: ValueError, KeyError, AttributeError."""
    return {
        key: {
            name: {of: _NODE_KEYS[of].read(one) for of, one in table.items()} for name, table in value.items()
        }
        if key == _NODES
        else _KEYS[key].read(value)
        for key, value in values.items()
    }


@functools.cache
def _validator() -> SchemaValidator:
    """Judges the values of one source. pydantic's core alone, as in words/schema.py."""
    from pydantic_core import SchemaValidator
    from pydantic_core import core_schema as cs

    def table(keys: Mapping[str, _Key], **more: cs.TypedDictField) -> cs.CoreSchema:
        read = {
            name: cs.typed_dict_field(cs.no_info_plain_validator_function(key.read), required=False)
            for name, key in keys.items()
        }
        return cs.typed_dict_schema({**read, **more}, extra_behavior="forbid")

    of_nodes = cs.dict_schema(cs.str_schema(), table(_NODE_KEYS), strict=True)
    return SchemaValidator(table(_KEYS, **{_NODES: cs.typed_dict_field(of_nodes, required=False)}))


def _found(value: object) -> str:
    return _found_text(json.dumps(value, ensure_ascii=False, default=str))


def _found_text(text: str) -> str:
    shown = _visible(text)
    return shown if len(shown) <= _SHOWN_CHARS_MAX else f"{shown[:_SHOWN_CHARS_MAX]}..."


def _suggestion(key: str, known: Sequence[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the keys are {', '.join(known)}"


# What reads a value returns what `Config` has, or raises ValueError, which may say why.


def _homes(found: object) -> tuple[str, ...]:
    if not isinstance(found, list) or not 1 <= len(found) <= _HOMES_MAX:
        raise ValueError
    return tuple(map(_home, found))


def _home(found: object) -> str:
    if not isinstance(found, str) or not os.path.isabs(found):
        raise ValueError(f"{_found(found)} is not an absolute path")
    if not found.isprintable():
        raise ValueError(f"{_found(found)} holds a control character")
    if "**" in found or ".." in found.split("/"):
        raise ValueError(f"{_found(found)} holds ** or ..")
    return os.path.normpath(found)


def _directory(found: object) -> str:
    path = "" if found == "" else _home(found)
    if any(sign in path for sign in "*?["):
        raise ValueError("it is a pattern")
    return path


def _program(found: object) -> str:
    path = _home(found)
    if any(sign in path for sign in "*?["):
        raise ValueError("it is a pattern")
    return path


def _cores(found: object) -> int | str:
    # `type` and not isinstance: true is a number to Python, and 2.0 a whole one.
    if (type(found) is int and 1 <= found <= _CORES_MAX) or found in ("physical", "logical"):
        return found
    raise ValueError


def _truth(found: object) -> bool:
    if isinstance(found, bool):
        return found
    raise ValueError


def _poll(found: object) -> float:
    return _bounded(found, _POLL_MIN_S, _POLL_MAX_S)


def _grace(found: object) -> float:
    return _bounded(found, 0, _GRACE_MAX_S)


def _bounded(found: object, least: float, most: float) -> float:
    seconds = _spoken(found)
    # true is a number to Python; nan is within no bounds.
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and least <= seconds <= most:
        return float(seconds)
    raise ValueError


def _duration(found: object) -> float:
    seconds = _spoken(found)
    if isinstance(found, str) and isinstance(seconds, float):
        return seconds
    # Days for one and minutes for another reader: so neither.
    raise ValueError("it has no unit" if isinstance(found, (str, int, float)) else "it is no text")


def _duration_or_none(found: object) -> float:
    return 0.0 if found in (0, "0") and not isinstance(found, bool) else _duration(found)


def _spoken(found: object) -> object:
    """Text with a unit in seconds; anything else as it is."""
    if not isinstance(found, str) or re.fullmatch(r"[0-9.]*", found):
        return found
    from roundq.words.quantities import parse_duration

    try:
        return parse_duration(found)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _half_life(found: object) -> float:
    seconds = _duration(found)
    if seconds < _HALF_LIFE_MIN_S:
        raise ValueError("it is too short")
    return seconds


def _lease(found: object) -> float:
    if found in (0, "0") and not isinstance(found, bool):
        return 0.0
    seconds = _duration(found)
    if seconds < _LEASE_MIN_S:
        raise ValueError("it is too short")
    return seconds


def _size(found: object) -> int:
    if found in (0, "0") and not isinstance(found, bool):
        return 0
    if isinstance(found, (str, int, float)) and re.fullmatch(r"[0-9.]*", str(found)):
        raise ValueError("it has no unit")
    if not isinstance(found, str):
        raise ValueError("it is no text")
    from roundq.words.quantities import parse_memory

    try:
        return parse_memory(found, 1)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _visible(text: str) -> str:
    from roundq.words.quantities import visible

    return visible(text)


class _Key(NamedTuple):
    """A key of a file: the field of `Config` that it sets, what it must be, and what reads it.

    Neither a user's file nor a variable may set one that is `system_only`.
    """

    field: str
    allowed: str
    read: Callable[[object], Any]
    system_only: bool = False


_SECONDS_OF_POLL = f"seconds from {_POLL_MIN_S} to {_POLL_MAX_S}"
_KEYS = {
    "homes": _Key(
        "homes", "a list of absolute directories or patterns, such as ['/home', '/data/*/home']", _homes
    ),
    "cores": _Key("cores", f'a whole number from 1 to {_CORES_MAX}, "physical" or "logical"', _cores),
    "poll_min": _Key("poll_min_s", _SECONDS_OF_POLL, _poll),
    "poll_max": _Key("poll_max_s", _SECONDS_OF_POLL, _poll),
    "keep_for": _Key("keep_for_s", 'a duration with its unit, such as "14d" or "12h"', _duration),
    "history": _Key(
        "history_s", 'a duration with its unit, such as "365d", or 0 for ever', _duration_or_none
    ),
    "sendmail": _Key("sendmail", 'an absolute path of a program, such as "/usr/sbin/sendmail"', _program),
    "auto_start": _Key("auto_start", "true or false", _truth),
    "max_output": _Key("max_output", 'a size with its unit, such as "1M", or 0 for no limit', _size),
    "grace": _Key("grace_s", f"seconds from 0 to {_GRACE_MAX_S}", _grace),
    "lease": _Key("lease_s", f"a duration with its unit of at least {_LEASE_MIN_S} s, or 0 for none", _lease),
    "patience": _Key("patience_s", 'a duration with its unit, such as "10m"', _duration),
    "settle": _Key("settle_s", 'a duration with its unit, such as "5s", or 0 for none', _duration_or_none),
    "tmp": _Key("tmp", 'an absolute directory, such as "/scratch", or "" for the usual one', _directory),
    "commons": _Key(
        "commons",
        'an absolute directory, such as "/data/roundq", or "" for none',
        _directory,
        system_only=True,
    ),
    "card_names": _Key("card_names", "true or false", _truth),
    "limits": _Key("limits", "a table", tables.limits, system_only=True),
    "shares": _Key("shares", "a table", tables.shares, system_only=True),
    "half_life": _Key(
        "half_life_s",
        f"a duration with its unit of at least {_HALF_LIFE_MIN_S} s",
        _half_life,
        system_only=True,
    ),
    "licenses": _Key("licenses", "a table", tables.licenses, system_only=True),
}
#: Keys whose number, in a variable, is seconds.
_SECONDS = ("poll_min", "poll_max", "grace")
_NODES = "nodes"
#: What a table of one node may set.
_NODE_KEYS = {
    "cores": _KEYS["cores"],
    "tmp": _KEYS["tmp"],
    "features": _Key("features", tables.ALLOWED_FEATURES, tables.features),
    "gpus": _Key("gpus", tables.ALLOWED_GPUS, tables.gpus),
    "licenses": _Key("node_licenses", "a table", tables.licenses, system_only=True),
}
#: What sets a field: a key of a file, or one that means something else in a table of one node.
_SETTING_KEYS = {
    **_KEYS,
    **{f"{_NODES}.{name}": key for name, key in _NODE_KEYS.items() if key is not _KEYS.get(name)},
}
_ALLOWED_NODES = "a table of tables, such as [nodes.NAME]"
#: The variables that are configuration. Jobs are given others that begin with RQ_ too.
_VARIABLES = {f"RQ_{name.upper()}": name for name, key in _KEYS.items() if not key.system_only}


# ---------------------------------------------------------------- where it stands


def _line_of(text: str, keys: tuple[str, ...]) -> int | None:
    """The line, from 1, of a TOML text that sets this key, or else begins its table. None if not found.

    Only for messages: a key inside a text of several lines may be taken for it.
    """
    table: tuple[str, ...] = ()
    begins: int | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.fullmatch(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?", line):
            table = _dotted(header[1])
            path = table
        else:
            path = (*table, *_dotted(line.partition("=")[0])) if "=" in line else ()
        if path[: len(keys)] == keys:
            return number
        if path and path == keys[: len(path)]:
            begins = number
    return begins


def _dotted(key: str) -> tuple[str, ...]:
    """The parts of a TOML key such as `nodes."n1.example".cores`, none if it is no key."""
    import tomli

    try:
        value: Any = tomli.loads(f"{key} = 0")
    except (tomli.TOMLDecodeError, RecursionError):
        return ()
    parts: list[str] = []
    while isinstance(value, dict) and value:
        part, value = next(iter(value.items()))
        parts.append(part)
    return tuple(parts)
