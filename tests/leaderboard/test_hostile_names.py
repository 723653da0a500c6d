"""Names and messages that mean something to a format, and rows with any values."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from harness.leaderboard import FORMATS, compare, render
from harness.results.rows import Row
from leaderboard.html_and_markdown import parse_html, parse_markdown_cells
from leaderboard.rows_and_boards import board_of, row

HOSTILE = [
    "a|b",
    "`code` **bold** _em_",
    "<script>alert('x')</script>",
    "[link](http://example.org)",
    "\\",
    "a\\|b",
    "&amp;",
    "$x^2$ ~~gone~~",
    "# title",
    "100% of {this} & that_one",
    '"quoted", with commas',
    "{{ 7 * 7 }}",
    "snake_case_name",
    "_start and end_",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_markdown(name):
    """An independent parser reads the name back unchanged from one cell."""
    rows = [row(name, metric="m"), row("deep", metric="m", value=None, message=name)]
    cells = parse_markdown_cells(render(board_of(rows)))
    assert len(cells) == 6
    assert cells[2] == name


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_in_html(name):
    """No name adds a tag, and its text is unchanged."""
    rows = [row(name, metric=name), row("deep", metric=name, value=None, message=name)]
    cells = parse_html(render(board_of(rows), "html"))
    assert cells.texts[2] == name
    known = {"div", "section", "h3", "table", "caption", "thead", "tbody", "tr", "th", "td", "strong", "sup", "ul", "li", "wbr"}
    assert set(cells.tags) <= known


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a_b & 50%", r"a\_b \& 50\%"),
        (r"\input{secret}", r"\textbackslash{}input\{secret\}"),
        ("[3em] * ~^", r"{[}3em{]} {*} \textasciitilde{}\textasciicircum{}"),
        ("$x$ #1 <a|b>", r"\$x\$ \#1 \textless{}a\textbar{}b\textgreater{}"),
        ("k-means -1 ±", r"k-means $-$1 $\pm$"),
    ],
)
def test_hostile_names_in_latex(name, text):
    """No name ends a cell, starts a command or becomes an option."""
    assert f"\n{text} & 94.00 \\\\\n" in render(board_of([row(name)]), "latex")


def test_control_characters():
    """Escape sequences, line breaks and direction marks of names and messages are not printed."""
    hostile = "a\x1b[31mred\r\nb\u202ec\u2028d\x00"
    rows = [row(hostile, benchmark=hostile), row("deep", value=None, benchmark=hostile, message=hostile)]
    for form in ("markdown", "html", "latex"):
        text = render(board_of(rows), form)
        assert not set(text) & set("\x1b\r\u202e\u2028\x00")
        assert ("b?c d" if form == "latex" else "b\ufffdc d") in text


any_text = st.text(st.characters(exclude_categories=()), max_size=6)


@st.composite
def results(draw: st.DrawFn) -> list[Row]:
    """Rows of one benchmark with any names and values; some failed, some are absent."""
    benchmark, architecture = draw(any_text), draw(any_text)
    methods = draw(st.lists(any_text, min_size=1, max_size=3, unique=True))
    directions = st.tuples(any_text, st.sampled_from(["higher", "lower", ""]))
    columns = draw(st.dictionaries(any_text, directions, min_size=1, max_size=2))
    found = []
    for dataset in draw(st.lists(any_text, min_size=1, max_size=2, unique=True)):
        for method in methods:
            for metric, (unit, better) in columns.items():
                for seed in draw(st.sets(st.integers(0, 3), max_size=3)):
                    value = draw(st.none() | st.floats())
                    place = {"benchmark": benchmark, "dataset": dataset, "architecture": architecture}
                    found.append(row(method, seed, value, metric, **place, unit=unit, better=better, message=draw(any_text)))
    return found


@given(results())
@settings(deadline=None, max_examples=80)
def test_any_rows(rows):
    """Every format renders them, twice to the same text, and the text is well formed."""
    compared = compare(board_of(rows), ())
    for form in FORMATS:
        assert render(compared, form) == render(compare(board_of(rows), ()), form)
    json.loads(render(compared, "json"), parse_constant=pytest.fail)
    entries = sum(len(line) for table in compared.tables for line in table.entries)
    assert len(list(csv.reader(io.StringIO(render(compared, "csv"), newline=""), strict=True))) == 1 + entries
    grids = parse_html(render(compared, "html")).tags.count("table")
    assert MarkdownIt("commonmark").enable("table").render(render(compared)).count("<table>") == grids
