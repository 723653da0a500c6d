"""Plain text as LaTeX source: ASCII only, escaped, with its width in Computer Modern."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from harness.text import plain_line

BOLD_FACTOR = 1.21  # the largest ratio of widths of a character in cmbx10 and cmr10

_WIDTHS = {
    2.78: "!',.:;[]`il|",
    3.33: "-jf ",
    3.94: "I()trs_",
    4.44: "cez",
    5.0: '"$*/0123456789\\^ago{}~?',
    5.56: "JSkqvxyhbdnpu",
    6.25: "ZL",
    7.22: "FEPCTw",
    7.85: "DRGBAHNUVXYKOQ&+=@<>",
    8.33: "#%m",
    10.28: "MW",
}
_WIDTH = {character: width for width, characters in _WIDTHS.items() for character in characters}
_OTHER_WIDTH = 10.0
_PLACEHOLDER_WIDTH = 46.0  # of [U+5B66]

_ASCII = {
    **{c: f"\\{c}" for c in "{}$&#_%"},
    **{c: f"{{{c}}}" for c in "[]*\"'`"},
    "|": r"\textbar{}",
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_SYMBOLS = {
    **{"±": r"$\pm$", "−": "$-$", "·": r"$\cdot$", "×": r"$\times$", "√": r"$\surd$", "′": "$'$", "°": r"$^\circ$"},
    **{"≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "∞": r"$\infty$", "∈": r"$\in$", "→": r"$\rightarrow$"},
    **{"↑": r"$\uparrow$", "↓": r"$\downarrow$", "†": r"$\dagger$", "‡": r"$\ddagger$", "²": "$^2$", "³": "$^3$"},
    **{chr(ord("₀") + digit): f"$_{digit}$" for digit in range(10)},
    **{"—": "---", "–": "--", "…": r"\ldots{}", "’": "{'}", "“": "``", "”": "{'}{'}", "\u00a0": "~", "\ufffd": "?"},
    **{"ß": r"\ss{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}", "ø": r"\o{}", "Ø": r"\O{}", "ł": r"\l{}"},
    **{"Γ": r"$\Gamma$", "Δ": r"$\Delta$", "Θ": r"$\Theta$", "Λ": r"$\Lambda$", "Ξ": r"$\Xi$", "Π": r"$\Pi$"},
    **{"Σ": r"$\Sigma$", "Φ": r"$\Phi$", "Ψ": r"$\Psi$", "Ω": r"$\Omega$"},
    **{"α": r"$\alpha$", "β": r"$\beta$", "γ": r"$\gamma$", "δ": r"$\delta$", "ε": r"$\epsilon$", "ζ": r"$\zeta$"},
    **{"η": r"$\eta$", "θ": r"$\theta$", "ι": r"$\iota$", "κ": r"$\kappa$", "λ": r"$\lambda$", "μ": r"$\mu$", "ν": r"$\nu$"},
    **{"ξ": r"$\xi$", "π": r"$\pi$", "ρ": r"$\rho$", "σ": r"$\sigma$", "τ": r"$\tau$", "υ": r"$\upsilon$"},
    **{"φ": r"$\phi$", "χ": r"$\chi$", "ψ": r"$\psi$", "ω": r"$\omega$"},
}
_ACCENTS = {
    **{"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"', "\u030a": "r", "\u030c": "v"},
    **{"\u0327": "c", "\u0307": "."},
}
_DOTLESS = {"i": r"\i", "j": r"\j"}
_MACRON = "\u0304"
_GLYPH = re.compile(r".[\u0300-\u036f]*", re.DOTALL)
_PART = re.compile(r"[^ _/-]*(?: [↑↓]|[ _/-])?")  # an arrow stays with the unit before it
WIDEST_PIECE = 60.0  # points, in 10 pt: what is not broken in texts that may be


def latex(text: str) -> str:
    """Return text escaped for LaTeX, in ASCII, on one line, with a minus sign before a negative number.

    Accents, Greek letters and the symbols of a board become commands that LaTeX itself defines; any other character becomes its
    code point, such as [U+5B66].
    """
    return _source(_prepared(text))


def breakable(text: str) -> str:
    """Return text escaped as by `latex`, which may be broken after parts of names and within long words."""
    pieces = []
    for part in _PART.findall(_prepared(text)):
        for piece in _chunks(part):
            pieces.append(_source(piece))
    return "\\allowbreak{}".join(pieces).replace(" \\allowbreak{}", " ")


def wrapped(text: str, widest: float) -> list[str]:
    """Return text as lines, broken after parts of names, of at most `widest` points each if its longest part allows that."""
    lines = [""]
    for part in _PART.findall(_prepared(text)):
        for piece in _chunks(part):
            if lines[-1] and width((lines[-1] + piece).rstrip()) > widest:
                lines.append("")
            lines[-1] += piece
    return [line.strip() for line in lines]


def longest_part(text: str) -> float:
    """Return the width of the widest part of a text that `wrapped` does not break."""
    widths = [0.0]
    for part in _PART.findall(_prepared(text)):
        widths += [width(piece.rstrip()) for piece in _chunks(part)]
    return max(widths)


def shortened(text: str, most: float) -> str:
    """Return a text of at most about `most` points; of a longer one, its two ends with an ellipsis between them."""
    glyphs = _GLYPH.findall(_prepared(text))
    if sum(map(_glyph_width, glyphs)) <= most:
        return text
    half = _leading(glyphs, most / 2)
    return f"{''.join(glyphs[:half])}…{''.join(glyphs[-_leading(glyphs[::-1], most / 2) :])}"


def _leading(glyphs: Sequence[str], most: float) -> int:
    """Return how many of the first glyphs take at most `most` points, at least one."""
    total = 0.0
    for count, glyph in enumerate(glyphs):
        total += _glyph_width(glyph)
        if total > most:
            return max(count, 1)
    return len(glyphs)


def _chunks(part: str) -> list[str]:
    """Return a part of a text in pieces of at most `WIDEST_PIECE` points, or of one character."""
    pieces = []
    piece = ""
    for glyph in _GLYPH.findall(part):
        if piece and width(piece + glyph) > WIDEST_PIECE:
            pieces.append(piece)
            piece = ""
        piece += glyph
    if piece:
        pieces.append(piece)
    return pieces


def _prepared(text: str) -> str:
    """Return text on one line, in composed characters, with a minus sign before a negative number."""
    line = re.sub(r"(?<!\S)-(?=\d)", "−", plain_line(text))
    return unicodedata.normalize("NFC", line)


def _source(line: str) -> str:
    return "".join(_escaped(glyph) for glyph in _GLYPH.findall(line))


def ascii_source(source: str) -> str:
    """Return LaTeX source of a user as it is, but with characters that are not ASCII escaped as by `latex`."""
    return "".join(glyph if glyph.isascii() else _escaped(glyph) for glyph in _GLYPH.findall(source))


def width(text: str, *, bold: bool = False) -> float:
    """Return the width of a text in points, in Computer Modern of 10 pt: an upper bound but for rounding."""
    total = 0.0
    for glyph in _GLYPH.findall(_prepared(text)):
        total += _glyph_width(glyph)
    return total * BOLD_FACTOR if bold else total


def _glyph_width(glyph: str) -> float:
    if glyph in _WIDTH:
        return _WIDTH[glyph]
    if glyph in _SYMBOLS:
        return _OTHER_WIDTH
    source = _escaped(glyph)
    if source.startswith("{[}"):
        return _PLACEHOLDER_WIDTH * len(glyph)
    return _WIDTH.get(unicodedata.normalize("NFD", glyph)[0], _OTHER_WIDTH)


def _escaped(glyph: str) -> str:
    """Return the source of one character, with the accents above it."""
    if glyph in _SYMBOLS:
        return _SYMBOLS[glyph]
    if glyph.isascii():
        return _ASCII.get(glyph, glyph)
    decomposed = unicodedata.normalize("NFD", glyph)
    if len(decomposed) == 2 and decomposed[0].isascii() and decomposed[0].isalpha():
        base, accent = decomposed[0], decomposed[1]
        if accent == _MACRON:
            return rf"$\bar{{{base}}}$"
        if accent in _ACCENTS:
            return f"\\{_ACCENTS[accent]}{{{_DOTLESS.get(base, base)}}}"
    return "".join(_placeholder(character) for character in unicodedata.normalize("NFC", glyph))


def _placeholder(character: str) -> str:
    if character.isascii():
        return _ASCII.get(character, character)
    return f"{{[}}U+{ord(character):04X}{{]}}"
