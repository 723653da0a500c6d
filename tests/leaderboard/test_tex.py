"""Plain text as LaTeX source: ASCII, escaped, broken and measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.leaderboard.tex import WIDEST_PIECE, ascii_source, breakable, latex, shortened, width, wrapped


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("q̄ (%) ↑", r"$\bar{q}$ (\%) $\uparrow$"),
        ("Größe, naïve, Ångström", r"Gr\"{o}\ss{}e, na\"{\i}ve, \r{A}ngstr\"{o}m"),
        ("Jensen–Shannon β₂", r"Jensen--Shannon $\beta$$_2$"),
        ("学", "{[}U+5B66{]}"),
        ("a\u0301\u0302", "{[}U+00E1{]}{[}U+0302{]}"),
        ("-5.2 ± k-means", r"$-$5.2 $\pm$ k-means"),
    ],
)
def test_escaping(text: str, source: str):
    """Accents, Greek letters and symbols become commands of LaTeX, other characters their code points."""
    assert latex(text) == source


@given(st.text(max_size=40))
def test_ascii(text: str):
    """The source is ASCII, and so is the one that may be broken."""
    assert latex(text).isascii()
    assert breakable(text).isascii()
    assert breakable(text).replace(r"\allowbreak{}", "") == latex(text)


def test_source_of_a_user():
    """Commands stay; characters that are not ASCII are escaped."""
    assert ascii_source(r"See \cite{x}: 95\,% of Größe") == r"See \cite{x}: 95\,% of Gr\"{o}\ss{}e"


@given(st.text(st.characters(codec="ascii", categories=("L", "N", "P", "Zs")), max_size=60))
def test_wrapping(text: str):
    """No line is wider than asked for, if that is at least the widest piece, and no character but spaces is lost."""
    lines = wrapped(text, WIDEST_PIECE)
    assert max(map(width, lines)) <= WIDEST_PIECE
    assert "".join(lines).replace(" ", "") == latex_plain(text)


def latex_plain(text: str) -> str:
    """Return a text without spaces, with minus signs as tables show them."""
    return "".join(wrapped(text, 1e9)).replace(" ", "")


def test_arrow_stays_with_its_unit():
    """A head is not broken before an arrow."""
    assert wrapped("Connectivity (%) ↑", 60) == ["Connectivity", "(%) ↑"]


def test_shortening():
    """The ends of a long text stay."""
    assert shortened("short", 100) == "short"
    text = shortened("a" * 100 + "z" * 100, 100)
    assert text.startswith("aaa")
    assert text.endswith("zzz")
    assert "…" in text
    assert width(text) < 115
