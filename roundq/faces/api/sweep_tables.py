"""The results of a sweep as a table: a row for each task that is done, of hash, parameters and results."""

from __future__ import annotations

import csv
import io
import json
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from roundq.faces.api import sweep as sweeps
from roundq.faces.api import sweep_outputs as outputs
from roundq.faces.api.sweep import State, Sweep
from roundq.faces.api.sweep_plans import Planned
from roundq.words.errors import RoundqError, UsageError

if TYPE_CHECKING:
    import pandas

#: The column of a result that is no dict, and what stands before the name of one that a parameter has.
RESULT = "result"
HASH = "hash"
#: What stands before the name of a parameter that is called as the hash.
PARAMETER = "parameter"
#: What a column of whole numbers holds, and what floats hold of these.
_INT_MAX, _EXACT_MAX = (1 << 63) - 1, 1 << 53

Row = dict[str, Any]


def rows(sweep: Sweep, states: Mapping[str, State]) -> list[Row]:
    """A row for each task that is done, in order. Raises OSError, and RoundqError for a file that is cut."""
    done = [task for task in sweep.tasks.values() if states[task.hash].state == outputs.DONE]
    values = sweeps.each([sweep.directory_of(task) for task in done], _result)
    # A column has parameters or results, though not all tasks have the same parameters.
    parameters = {name for task in sweep.tasks.values() for name in task.params}
    return [_row(task, value, parameters) for task, value in zip(done, values, strict=True)]


def _result(directory: str) -> Any:
    return outputs.read(directory, outputs.RESULT).get("result")


def _row(task: Planned, value: Any, parameters: Collection[str]) -> Row:
    row: Row = {HASH: task.hash}
    for name, each in task.params.items():
        row[_free(name, PARAMETER, row)] = each
    results = value if isinstance(value, dict) else {} if value is None else {RESULT: value}
    for name, each in results.items():
        row[_free(name, RESULT, row.keys() | parameters)] = each
    return row


def _free(name: str, prefix: str, taken: Collection[str]) -> str:
    """What a column is called so that it is none of these."""
    while name in taken:
        name = f"{prefix}.{name}"
    return name


def _encoded(text: str) -> bytes:
    """In UTF-8; halves of characters, as in file names that are no text, escaped as JSON has them."""
    return text.encode(errors="backslashreplace")


def columns(table: Sequence[Row]) -> list[str]:
    """The names of all columns, as they are met; of a table without rows that of the hash."""
    return list(dict.fromkeys(name for row in table for name in row)) or [HASH]


# ---------------------------------------------------------------- as files


def as_csv(table: Sequence[Row]) -> bytes:
    """The table as CSV; lists, dicts and bools as JSON, and nothing where there is none."""
    names = columns(table)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in table)
    return _encoded(text.getvalue())


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, (str, int, float)) and not isinstance(value, bool)):
        return value
    return json.dumps(value)


def as_jsonl(table: Sequence[Row]) -> bytes:
    """The table as a JSON object a line."""
    return b"".join(_encoded(json.dumps(row, ensure_ascii=False)) + b"\n" for row in table)


def as_parquet(table: Sequence[Row]) -> bytes:
    """The table as Parquet: a column of bools, of whole numbers, of numbers, or else of text, which is JSON
    where not all are texts. Raises RoundqError without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise _missing("pyarrow", "Parquet") from None
    arrays = {
        _encoded(name).decode(): _column(pyarrow, [row.get(name) for row in table]) for name in columns(table)
    }
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table(arrays), sink)
    return bytes(sink.getvalue().to_pybytes())


def _column(pyarrow: Any, values: Sequence[Any]) -> Any:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pyarrow.array(values, type=pyarrow.bool_())
    if kinds == {int} and all(value is None or abs(value) <= _INT_MAX for value in values):
        return pyarrow.array(values, type=pyarrow.int64())
    if float in kinds and kinds <= {int, float} and not _are_large(values):
        return pyarrow.array(
            [None if value is None else float(value) for value in values], type=pyarrow.float64()
        )
    if kinds <= {str}:
        texts = [None if value is None else _encoded(value).decode() for value in values]
        return pyarrow.array(texts, type=pyarrow.string())
    texts = [None if value is None else json.dumps(value) for value in values]
    return pyarrow.array(texts, type=pyarrow.string())


def _are_large(values: Sequence[Any]) -> bool:
    """Whether a whole number is among these that no float is."""
    return any(isinstance(value, int) and abs(value) > _EXACT_MAX for value in values)


def _missing(module: str, what: str) -> RoundqError:
    return RoundqError(
        f"{what} needs {module}, which is not installed",
        f"{shlex.quote(sys.executable)} -m pip install pandas pyarrow",
    )


_WRITERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    ".csv": as_csv,
    ".jsonl": as_jsonl,
    ".parquet": as_parquet,
}


def writer_of(path: str) -> Callable[[Sequence[Row]], bytes]:
    """How the file of this name is written. Raises UsageError for an ending that is not known."""
    for ending, write in _WRITERS.items():
        if path.lower().endswith(ending):
            return write
    raise UsageError(f"{path}: what kind of file is it?", f"its name ends in {', '.join(_WRITERS)}")


def frame(table: Sequence[Row]) -> pandas.DataFrame:
    """The table as a data frame. Raises RoundqError without pandas."""
    try:
        import pandas
    except ImportError:
        raise _missing("pandas", "a data frame") from None
    return pandas.DataFrame(list(table), columns=columns(table))
