"""Tables of HTML and markdown, read by independent parsers."""

from __future__ import annotations

import itertools
from html.parser import HTMLParser

from markdown_it import MarkdownIt


class TableParser(HTMLParser):
    """Collects the text of every table cell of an HTML fragment, and all tags and classes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.classes: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.classes += [value or "" for name, value in attrs if name == "class"]
        if tag in ("th", "td"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.texts:
            self.texts[-1] += data


def parse_html(fragment: str) -> TableParser:
    """Return the cells, tags and classes of an HTML fragment."""
    parser = TableParser()
    parser.feed(fragment)
    parser.close()
    return parser


def parse_markdown_cells(markdown: str) -> list[str]:
    """Return the text of all table cells, as an independent parser of GitHub's markdown reads them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown)
    cells = []
    for token, content in itertools.pairwise(tokens):
        if token.type in ("th_open", "td_open"):
            cells.append("".join(child.content for child in content.children or ()))
    return cells
