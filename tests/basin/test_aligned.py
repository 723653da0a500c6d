"""`aligned`: shared objects with the paper's methods, members of other methods, alignments of third parties, wrong names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import harness
import toys
from conftest import Lab
from harness import Alignment, DerivationContext, PluginError, Recipe, Setting, StateDict
from harness.errors import BenchmarkError, UserError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import check_alignment, check_ensemble_builder, derivation_context
from harness_basin.aligned import AlignedEnsemble
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.matching import derive_symmetry, permute, random_permutations

GraphOf = Callable[..., Graph]


class Reversed(Alignment):
    """Reverses the hidden units of the second network of a pair: a third party's alignment."""

    name, version = "reversed", 1

    class Options(harness.Options):
        """Options."""

        times: int = 1

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        moved = {name: tensor.clone() for name, tensor in parents[1].items()}
        if self.options.times % 2:
            for name in ("1.weight", "1.bias"):
                moved[name] = moved[name].flip(0)
            moved["3.weight"] = moved["3.weight"].flip(1)
        return [moved], {}


class Halving(Alignment):
    """Halves all weights: no symmetry."""

    name, version = "halving", 1

    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        same = all(torch.equal(tensor.sort().values, parents[0][name].sort().values) for name, tensor in parents[1].items())
        return [{name: tensor.clone() if same else tensor / 2 for name, tensor in parents[1].items()}], {}


CATALOGUE = toys.catalogue(("derivation", Reversed), ("derivation", Halving))


def keys(graph: Graph, label: str) -> list[str]:
    """Return the keys of a method's members."""
    (cell,) = [cell for cell in graph.cells if cell.spec.method.label == label]
    assert not cell.problem
    return [member.key for member in cell.members]


@pytest.mark.parametrize(
    ("aligned", "other"),
    [
        ({}, "permuted"),
        ({"by": "weights"}, "permuted"),
        ({"by": {"weights": {"restarts": 3}}}, {"permuted": {"restarts": 3}}),
        ({"by": "joint_weights"}, "multi_permuted"),
        ({"by": {"joint_weights": {"restarts": 1}}}, "multi_permuted"),
        ({"by": {"joint_weights": {"max_sweeps": 2}}, "of": {"deep": {}}}, {"multi_permuted": {"max_sweeps": 2}}),
    ],
    ids=str,
)
def test_objects_are_shared(graph_of: GraphOf, aligned: dict[str, Any], other: Any) -> None:
    """Aligned by weights, members are those of the paper's methods: they have the same keys."""
    graph = graph_of(methods=[{"aligned": aligned}, other], members=3)
    name = other if isinstance(other, str) else next(iter(other))
    assert keys(graph, "aligned") == keys(graph, name)


def test_key_of_joint_descents() -> None:
    """A single joint descent keeps the identity that it had before there were restarts; several have another one."""
    single = CATALOGUE.choose("alignment", "joint_weights")
    assert single.identity == {"name": "joint_weight_matching", "version": 1, "options": {"max_sweeps": 100, "members": 1}}
    several = CATALOGUE.choose("alignment", {"joint_weights": {"restarts": 3}}).for_members(4)
    assert several.identity["options"] == {"max_sweeps": 100, "members": 4, "restarts": 3}
    for alignment in (single, several):
        assert CATALOGUE.from_identity("derivation", alignment.identity).options == alignment.options


def test_members_of_another_method(graph_of: GraphOf) -> None:
    """With `of`, the first member is that method's, and the others are aligned to it."""
    fork = {"constrained": {"fork_epoch": 2}}
    graph = graph_of(methods=[{"aligned": {"of": fork}}, fork, "deep"], members=3)
    aligned, constrained, deep = (keys(graph, label) for label in ("aligned", "constrained", "deep"))
    assert aligned[0] == constrained[0]
    assert not set(aligned[1:]) & {*constrained, *deep}


def test_run_of_several_alignments(graph_of: GraphOf, lab: Lab) -> None:
    """A grid gives a method per alignment; aligned members have the accuracy of the deep ones, to the image."""
    grid = {"by": ["weights", "joint_weights", {"reversed": {"times": 3}}]}
    graph = graph_of(methods=["deep", {"aligned": {"grid": grid}}], members=3, catalogue=CATALOGUE)
    lab.run(graph, CATALOGUE)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert len(set(rows["method"])) == 4
    assert set(rows[rows["method"] != "deep"]["method_version"]) == {
        "aligned@1+weight_matching@1+deep@1",
        "aligned@1+joint_weight_matching@1+deep@1",
        "aligned@1+reversed@1+deep@1",
    }
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].nunique() == 1
    new = rows[(rows["metric"] == "new_epochs") & (rows["method"] != "deep")]
    assert list(new["value"]) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"by": "wieghts"},
            r"aligned\.by: unknown alignment 'wieghts'; did you mean 'weights'\? known: [a-z0-9_, ]*weights$",
        ),
        ({"by": {"weights": {"restart": 2}}}, r"unknown key 'restart'; did you mean 'restarts'\? known: max_sweeps, restarts$"),
        (
            {"by": {"weights": {"restarts": 0}}},
            r"aligned\.by\.weights\.restarts: 0 is out of range; an integer of at least 1",
        ),
        (
            {"by": {"joint_weights": {"restarts": 0}}},
            r"aligned\.by\.joint_weights\.restarts: 0 is out of range; an integer of at least 1",
        ),
        ({"by": {"joint_weights": {"members": 4}}}, r"by: members is 4; leave it out: it is the benchmark's \(3\)$"),
        ({"of": "deap"}, r"aligned\.of: unknown method 'deap'; did you mean 'deep'\? known: "),
        ({"of": {"constrained": {"fork_epoch": 99}}}, r"fork_epoch is 99"),
        ({"grid": {"by": ["weights", "c2m2"]}}, r"aligned\.by: unknown alignment 'c2m2'"),
    ],
    ids=str,
)
def test_wrong_choices(graph_of: GraphOf, options: dict[str, Any], message: str) -> None:
    """Names, options and methods that do not fit are refused before anything runs, in one line."""
    with pytest.raises(BenchmarkError, match=message) as error:
        graph_of(methods=[{"aligned": options}])
    assert len(str(error.value).splitlines()) == 1


def test_method_without_its_alignment() -> None:
    """Made without the catalogue, the method cannot find its alignment, and says so."""
    with pytest.raises(PluginError, match=r"^aligned: made without its alignment; make it with the catalogue$"):
        AlignedEnsemble().build(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("by", ["weights", "joint_weights", {"reversed": {}}])
def test_contract_of_the_method(by: Any) -> None:
    """The members depend on the cell only."""
    builder = CATALOGUE.create("ensemble_builder", "aligned", AlignedEnsemble.Options(by=by))
    if by == {"reversed": {}}:
        with pytest.raises(AssertionError, match="unknown derivation 'reversed'"):
            check_ensemble_builder(builder, Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=4)), CrossEntropy())
        return
    assert len(check_ensemble_builder(builder, Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=4)), CrossEntropy())) == 3


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """Return a context for wide perceptrons."""
    return derivation_context(toys.Perceptron(toys.Perceptron.Options(width=40)), toys.Blobs(), tmp_path)


@pytest.fixture
def planted(context: DerivationContext) -> Callable[[StateDict, int], StateDict]:
    """Return a function that permutes hidden units at random."""
    symmetry = derive_symmetry(context.network().eval(), context.normalize(context.test.images[:2]))
    return lambda state, seed: permute(symmetry, random_permutations(symmetry, seed), state)


@pytest.mark.parametrize("name", ["weights", "joint_weights", "c2m3"])
def test_contract_of_alignments(name: str, context: DerivationContext, planted: Callable[[StateDict, int], StateDict]) -> None:
    """Planted permutations are recovered exactly, functions stay, and the first member is not moved."""
    check_alignment(CATALOGUE.choose("alignment", name), context, planted)


@pytest.mark.parametrize(
    ("alignment", "message"),
    [
        (Reversed(), r"^reversed: it does not recover a planted element: '1\.weight' of member 1"),
        (Halving(), r"^halving: it "),
    ],
)
def test_alignments_that_break_the_contract(
    alignment: Alignment, message: str, context: DerivationContext, planted: Callable[[StateDict, int], StateDict]
) -> None:
    """The message says what is wrong."""
    with pytest.raises(AssertionError, match=message):
        check_alignment(alignment, context, planted)


def test_alignment_that_changes_the_function(context: DerivationContext) -> None:
    """It recovers the trivial element, and is found by the outputs."""

    with pytest.raises(AssertionError, match=r"^halving: it changes the function of member 1: "):
        check_alignment(Halving(), context, lambda state, seed: {name: tensor.clone() for name, tensor in state.items()})


def test_unknown_alignment_outside_a_file() -> None:
    """Derivations that are no alignment are none of the known names."""
    with pytest.raises(UserError, match=r"^unknown alignment 'weight_matching'; did you mean"):
        CATALOGUE.choose("alignment", "weight_matching")
