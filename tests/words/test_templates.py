"""Promises about what is filled into a command: exactly the places, as whole arguments or parts of them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roundq.words import templates
from roundq.words.errors import UsageError
from roundq.words.templates import CSV, JSONL, LINES, TSV, Row, RowError, Template


def fill(command: list[str], line: str, index: int = 7) -> list[str]:
    return list(Template(command, None).fill(Row(1, line), index))


@pytest.mark.parametrize(
    ("command", "line", "filled"),
    [
        (["cmd", "{}"], "two words", ["cmd", "two words"]),
        (["cmd", "x={}.out"], "a b", ["cmd", "x=a b.out"]),
        (["cmd", "{1}", "{2}"], "a 'b c' d", ["cmd", "a", "b c"]),
        (["cmd", "{2}{1}{2}"], "a b", ["cmd", "bab"]),
        (["cmd", "{index}"], "a", ["cmd", "7"]),
        (["cmd"], "a 'b c' #d", ["cmd", "a", "b c", "#d"]),
        (["cmd", "{{}}"], "a", ["cmd", "{}", "a"]),
        (["cmd", "{{index}} {{1}} {{x}}", "{}"], "a", ["cmd", "{index} {1} {x}", "a"]),
        (["awk", "{print $1}", "{}"], "f", ["awk", "{print $1}", "f"]),
        (["cmd", '{"a": {"b": 1}}', "{}"], "f", ["cmd", '{"a": {"b": 1}}', "f"]),
        (["cmd", "{a,b} ${x.y} {", "}", "{}"], "f", ["cmd", "{a,b} ${x.y} {", "}", "f"]),
        (["{}"], "prog", ["prog"]),
        (["cmd", "{}"], "$(rm -rf ~); `x` *", ["cmd", "$(rm -rf ~); `x` *"]),
        (["cmd", "{}"], "{} {1} {{}}", ["cmd", "{} {1} {{}}"]),
        (["cmd", "", "{}"], "a", ["cmd", "", "a"]),
        (["cmd", "{{{}}}"], "a", ["cmd", "{{}}", "a"]),
    ],
)
def test_what_is_filled_in(command: list[str], line: str, filled: list[str]) -> None:
    """A value is filled in once: braces in it stay as they are."""
    assert fill(command, line) == filled


@pytest.mark.parametrize(
    ("command", "line", "what"),
    [
        (["cmd", "{3}"], "a b", "it has 2 words, and {3} is asked for"),
        (["cmd", "{2}"], "a", "it has 1 word, and {2} is asked for"),
        (["cmd"], "it's", "a quote is not closed"),
        (["cmd", "{1}"], "a \\", "nothing follows the backslash"),
        (["cmd", "{0}"], "a", "{0}: words are counted from {1}"),
        (["cmd", "{999999}"], "a", "{999999}: words are counted from {1}"),
        (["cmd", "{name}"], "a", "{name} is filled in from a column, and lines have none"),
    ],
)
def test_what_cannot_be_filled_in(command: list[str], line: str, what: str) -> None:
    with pytest.raises(UsageError) as caught:
        fill(command, line)
    assert str(caught.value) == what


def test_a_name_that_is_no_column_is_told_with_those_that_are() -> None:
    with pytest.raises(UsageError) as caught:
        Template(["cmd", "{lr}"], ["rate", "seed"])
    assert str(caught.value) == "there is nothing called lr to fill in for {lr}"
    assert caught.value.hint == "there is {rate}, {seed}; write {{lr}} for {lr} itself"


def rows(text: str, how: str) -> tuple[list[str] | None, list[tuple[int, str, dict[str, str] | None]]]:
    columns, found = templates.rows(text.splitlines(keepends=True), how)
    return columns, [(row.number, row.line, row.cells) for row in found]


def test_lines_are_whole_and_empty_ones_are_none() -> None:
    assert rows(" a b \r\n\n  \n# c", LINES) == (None, [(1, " a b ", None), (4, "# c", None)])


def test_a_table_names_its_columns_in_its_first_row() -> None:
    """Cells may hold commas, quotes and ends of lines; a row has the number of its first line."""
    text = '\ufeffname, learning rate\na,0.1\n\n"b ""c"", d\ne",0.2\n,3\n'
    columns, found = rows(text, CSV)
    assert columns == ["name", "learning rate"]
    assert found == [
        (2, "a,0.1", {"name": "a", "learning rate": "0.1"}),
        (4, '"b ""c"", d\ne",0.2', {"name": 'b "c", d\ne', "learning rate": "0.2"}),
        (6, ",3", {"name": "", "learning rate": "3"}),
    ]
    filled = Template(["cmd", "{name}", "{learning rate}", "{2}"], columns).fill(Row(*found[0]), 0)
    assert filled == ("cmd", "a", "0.1", "0.1")
    assert Template(["cmd"], columns).fill(Row(*found[0]), 0) == ("cmd", "a", "0.1")


def test_tabs_part_columns_as_well() -> None:
    assert rows("a\tb\n1, 2\t3\n", TSV) == (["a", "b"], [(2, "1, 2\t3", {"a": "1, 2", "b": "3"})])


def test_objects_have_columns_each() -> None:
    """Text is filled in as it is, null as nothing, and what else there is as JSON writes it."""
    text = '{"a": "x y", "b": 0.5, "c": null}\n\n {"b": [1, {"é": true}], "a": 3} \n'
    columns, found = rows(text, JSONL)
    assert columns == ["a", "b", "c"]
    assert [cells for *_, cells in found] == [
        {"a": "x y", "b": "0.5", "c": ""},
        {"b": '[1,{"é":true}]', "a": "3"},
    ]
    template = Template(["cmd", "{a}", "{b}"], columns)
    assert template.fill(Row(*found[1]), 1) == ("cmd", "3", '[1,{"é":true}]')
    with pytest.raises(UsageError, match="it has nothing called c"):
        Template(["cmd", "{c}"], columns).fill(Row(*found[1]), 1)


@pytest.mark.parametrize(
    ("text", "how", "what"),
    [
        ("a,b\n1\n", CSV, "line 2: it has 1 column, and the first row 2"),
        ("a,b\n1,2\n1,2,3\n", CSV, "line 3: it has 3 columns, and the first row 2"),
        ("a,a\n", CSV, 'line 1: two columns are called "a"'),
        ("a,,\n", CSV, "line 1: two columns have no name"),
        ('a\n"x\n', CSV, "line 2: unexpected end of data"),
        ("{", JSONL, "line 1: it is not JSON"),
        ('{"a": 1}\n[1]\n', JSONL, "line 2: it is not an object of JSON"),
        ("[" * 100_000, JSONL, "line 1: it is not JSON"),
    ],
)
def test_a_row_that_is_wrong_is_named(text: str, how: str, what: str) -> None:
    with pytest.raises(RowError) as caught:
        rows(text, how)
    assert str(caught.value) == what


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("a.csv", CSV),
        ("a.CSV", CSV),
        ("x/a.tsv", TSV),
        ("a.tab", TSV),
        ("a.jsonl", JSONL),
        ("a.ndjson", JSONL),
        ("a.txt", LINES),
        ("csv", CSV),
        ("-", LINES),
        ("a.json", LINES),
    ],
)
def test_the_name_of_a_file_tells_its_format(name: str, how: str) -> None:
    assert templates.format_of(name) == how


text = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


@given(st.lists(text, min_size=1, max_size=4), text, st.integers(0, 99))
def test_a_command_without_braces_stays_as_it_is(command: list[str], line: str, index: int) -> None:
    """And a value appears exactly where its place was."""
    plain = [word.replace("{", "(").replace("}", ")") for word in command]
    template = Template([*plain, "<{}>", "{index}"], None)
    assert template.fill(Row(1, line), index) == (*plain, f"<{line}>", str(index))


@given(text.filter(lambda word: word and "{" not in word and "}" not in word))
def test_doubled_braces_are_single_ones_where_a_place_would_be(name: str) -> None:
    """With columns of any name; nothing else loses a brace."""
    template = Template([f"{{{{{name}}}}}", f"{{{name}}}"], [name])
    assert template.fill(Row(1, "line", {name: "value"}), 0) == (f"{{{name}}}", "value")


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), text, min_size=3, max_size=3), min_size=1, max_size=4)
)
def test_tables_and_objects_hold_any_text(records: list[dict[str, str]]) -> None:
    """What a program wrote is what is filled in."""
    import csv
    import io

    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["a", "b", "c"], quoting=csv.QUOTE_ALL)
    writer.writeheader()
    for record in records:
        if any(record.values()):
            writer.writerow(record)
    kept = [record for record in records if any(record.values())]
    lines = io.StringIO(stream.getvalue(), newline="").readlines()
    _, found = templates.rows(lines, CSV)
    assert [row.cells for row in found] == [{name: record[name] for name in "abc"} for record in kept]
    _, found = templates.rows([json.dumps(record) + "\n" for record in records], JSONL)
    assert [row.cells for row in found] == records
