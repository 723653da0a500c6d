"""`harness diff`: why two keys differ."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from harness.cli.arguments import json_option, store_option
from harness.cli.explain import find_key, run_option
from harness.errors import StoreError
from harness.runs.key_sentences import difference_sentence, sentence
from harness.text import escape_unprintable

_ABSENT = object()


@dataclass(frozen=True)
class Difference:
    """A value in which two specs differ, at a dotted path."""

    path: str
    left: Any
    right: Any

    def to_json(self) -> dict[str, Any]:
        """Return path and values; a value that is absent is left out."""
        values = {"path": self.path, "first": self.left, "second": self.right}
        return {name: value for name, value in values.items() if value is not _ABSENT}

    def __str__(self) -> str:
        return f"{self.path}: {_show(self.left)} → {_show(self.right)}"


@click.command()
@click.argument("first", metavar="KEY")
@click.argument("second", metavar="KEY")
@store_option
@run_option
@json_option
def diff(first: str, second: str, store: Path | None, runs: tuple[Path, ...], as_json: bool) -> None:
    """Print in what two keys differ: first a sentence, then every value of their specifications that differs, one per line."""
    left = find_key(first, store, runs)
    right = find_key(second, store, runs)
    try:
        found = list(differences({"kind": left["kind"], **left["spec"]}, {"kind": right["kind"], **right["spec"]}))
    except RecursionError:  # a spec that the harness wrote is not nested so deeply
        raise StoreError(f"{first} or {second} is nested too deeply to compare") from None
    if as_json:
        facts = {"first": left["key"], "second": right["key"], "differences": [one.to_json() for one in found]}
        click.echo(json.dumps(facts, indent=1))
        return
    if not found:
        click.echo("no difference: both keys are of one thing")
        return
    sentences = (sentence(left["kind"], left["spec"]), sentence(right["kind"], right["spec"]))
    click.echo(escape_unprintable(difference_sentence(*sentences, [one.path for one in found])))
    for one in found:
        click.echo(escape_unprintable(str(one)))


def differences(left: Any, right: Any, path: str = "") -> Iterator[Difference]:
    """Yield every leaf that differs."""
    if isinstance(left, dict) and isinstance(right, dict):
        for name in sorted({*left, *right}):
            inner = f"{path}.{name}" if path else name
            yield from differences(left.get(name, _ABSENT), right.get(name, _ABSENT), inner)
    elif left != right:
        yield Difference(path, left, right)


def _show(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value)
