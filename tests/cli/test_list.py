"""`harness list KIND`: which words name a kind."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.cli.list_plugins import plural
from harness.errors import UserError
from harness.registry.catalogue import KINDS, Catalogue


def message(word: str) -> str:
    """Return the message about a word that names no kind."""
    done = CliRunner().invoke(cli, ["list", word], obj=Catalogue([]))
    assert isinstance(done.exception, UserError)
    return str(done.exception)


def test_unknown_kind() -> None:
    """The message lists all kinds in the one spelling that the help uses."""
    known = "architectures, corrections, couplings, datasets, derivations, engines, "
    known += "evaluation_sets, figures, methods, metrics, objectives, observers"
    assert message("nosuch") == f"unknown kind 'nosuch'; known: {known}"
    assert sorted(known.split(", ")) == sorted(map(plural, KINDS))


def test_misspelled_kind() -> None:
    """The message suggests the kind that was meant."""
    assert message("metod").startswith("unknown kind 'metod'; did you mean 'methods'?")
    assert message("arcitecture").startswith("unknown kind 'arcitecture'; did you mean 'architectures'?")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_the_message(kind: str) -> None:
    """The help names it, and `harness list` takes it, in singular or plural."""
    assert plural(kind) in " ".join(CliRunner().invoke(cli, ["list", "--help"]).output.split())
    for word in (plural(kind), plural(kind).upper(), kind, kind.replace("_", "-")):
        assert CliRunner().invoke(cli, ["list", word], obj=Catalogue([])).exit_code == 0
