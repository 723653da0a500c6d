"""`harness list KIND`: which words name a kind."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from harness.cli import cli
from harness.cli.list_plugins import plural
from harness.errors import UserError
from harness.registry.catalogue import KINDS, SUBSETS, Catalogue, load_catalogue


def message(word: str) -> str:
    """Return the message about a word that names no kind."""
    done = CliRunner().invoke(cli, ["list", word], obj=Catalogue([]))
    assert isinstance(done.exception, UserError)
    return str(done.exception)


def test_unknown_kind() -> None:
    """The message lists all kinds in the one spelling that the help uses."""
    known = "alignments, architectures, corrections, couplings, datasets, derivations, engines, "
    known += "evaluation_sets, figures, methods, metrics, objectives, observers"
    assert message("nosuch") == f"unknown kind 'nosuch'; known: {known}"
    assert sorted(known.split(", ")) == sorted(map(plural, (*KINDS, *SUBSETS)))


def test_misspelled_kind() -> None:
    """The message suggests the kind that was meant."""
    assert message("metod").startswith("unknown kind 'metod'; did you mean 'methods'?")
    assert message("arcitecture").startswith("unknown kind 'arcitecture'; did you mean 'architectures'?")


@pytest.mark.parametrize("kind", [*KINDS, *SUBSETS])
def test_every_kind_of_the_message(kind: str) -> None:
    """The help names it, and `harness list` takes it, in singular or plural."""
    assert plural(kind) in " ".join(CliRunner().invoke(cli, ["list", "--help"]).output.split())
    for word in (plural(kind), plural(kind).upper(), kind, kind.replace("_", "-")):
        assert CliRunner().invoke(cli, ["list", word], obj=Catalogue([])).exit_code == 0


def test_alignments() -> None:
    """They have the names that `by:` takes, in the text and in JSON; among the derivations they have those of keys."""
    catalogue = load_catalogue()
    listed = CliRunner().invoke(cli, ["list", "alignments"], obj=catalogue).output
    assert listed.startswith("alignments\n  activations  ")
    assert "\n  weights  " in listed
    assert "weight_matching  " not in listed
    described = json.loads(CliRunner().invoke(cli, ["list", "alignment", "--json"], obj=catalogue).output)
    names = [entry["name"] for entry in described]
    assert names == sorted(catalogue.subset("alignment"))
    assert {entry["kind"] for entry in described} == {"alignment"}
    assert "  weight_matching  " in CliRunner().invoke(cli, ["list", "derivations"], obj=catalogue).output
