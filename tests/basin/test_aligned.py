"""`aligned`: shared objects with the paper's methods, members of other methods, alignments of third parties, wrong names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import harness
import toys
from bundles.toy_bundles import CONTENT, publish_toys, run_toys
from conftest import Lab
from harness import Alignment, DerivationContext, PluginError, Recipe, Setting, StateDict
from harness.benchmark import load_benchmark
from harness.errors import BenchmarkError, UserError
from harness.plan.graph import Graph
from harness.plan.planner import plan
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


@pytest.mark.parametrize(
    ("written", "short"),
    [
        ({"aligned": {"by": {"ste": None}, "of": {"deep": None}}}, {"aligned": {"by": "ste"}}),
        ({"aligned": {"grid": {"by": [{"ot": None}]}}}, {"aligned": {"by": "ot"}}),
        ({"fused": {"by": {"ot": None}, "of": {"deep": None}}}, "fused"),
        ({"distilled": {"teachers": {"constrained": None}}}, {"distilled": {"teachers": "constrained"}}),
        ({"soup": {"of": {"deep": None}}}, {"soup": {"of": "deep"}}),
        ({"swa": {"of": {"deep": None}}}, {"swa": {"of": "deep"}}),
        ({"deep": None}, "deep"),
    ],
    ids=str,
)
def test_null_options_are_the_defaults(graph_of: GraphOf, written: Any, short: Any) -> None:
    """A name with a colon and nothing below it is the name alone, wherever a name with options is allowed."""
    metrics = ["ensemble_accuracy"]
    (cell,) = graph_of(methods=[written], metrics=metrics).cells
    (expected,) = graph_of(methods=[short], metrics=metrics).cells
    assert cell.problem == ""
    assert [member.key for member in cell.members] == [member.key for member in expected.members]


@pytest.mark.parametrize(
    "metric",
    [{"joint_connectivity": {"correction": {"repair": None}}}, {"shift_accuracy": {"splits": {"c_like": None}}}],
    ids=str,
)
def test_null_options_in_metrics(graph_of: GraphOf, metric: dict[str, Any]) -> None:
    """Corrections and evaluation sets with null options have their defaults: equal keys."""
    ((name, options),) = metric.items()
    ((option, choice),) = options.items()
    short = {name: {option: next(iter(choice))}}
    changes: dict[str, Any] = {"methods": ["deep"], "datasets": ["digits"], "architectures": ["resnet20"]}
    found = graph_of(metrics=[metric], **changes).benchmark.metrics[0].plugin
    expected = graph_of(metrics=[short], **changes).benchmark.metrics[0].plugin
    assert found.chosen[option].identity == expected.chosen[option].identity


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ({"ste": 5}, r"aligned\.by: ste: 5 is not a mapping; options, such as \{key: value\}, or the name alone$"),
        ({"ste": []}, r"aligned\.by: ste: \[\] is not a mapping; options, such as "),
        (5, r"aligned\.by: 5 is not allowed; a text or a mapping of one name to its options$"),
        (None, r"aligned\.by: null is not allowed; a text or a mapping of one name to its options$"),
        ({}, r"aligned\.by: \{\} names 0 plugins; one name, or 'name: \{option: value\}'$"),
        ({"ste": None, "ot": None}, r"aligned\.by: \{'ot': \{\}, 'ste': \{\}\} names 2 plugins; one name, or"),
    ],
    ids=str,
)
def test_choices_of_another_form(graph_of: GraphOf, by: Any, message: str) -> None:
    """What is no name and no mapping of one name to options is refused in one line, which says what is."""
    with pytest.raises(BenchmarkError, match=message) as error:
        graph_of(methods=[{"aligned": {"by": by}}])
    assert len(str(error.value).splitlines()) == 1


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


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bundle of a run of `deep` and `permuted`."""
    folder = tmp_path_factory.mktemp("published")
    publish_toys(run_toys(folder, seeds=[0]), folder / "bundle")
    return folder / "bundle"


def test_published_members(bundle: Path, tmp_path: Path) -> None:
    """Published members are aligned like those that were trained here, and nothing is trained."""
    of = {"published": {"path": str(bundle), "of": "deep"}}
    methods = [{"aligned": {"by": by, "of": of, "label": by}} for by in ("weights", "activations")]
    run = run_toys(tmp_path, methods=[*methods, "permuted"], seeds=[0])
    assert run.status == "done"
    values = {(row.method, row.metric): row.value for row in run.rows.itertuples()}
    for metric in ("ensemble_accuracy", "mean_member_accuracy", "joint_connectivity"):
        assert values["weights", metric] == values["permuted", metric]
    assert values["activations", "ensemble_accuracy"] == values["permuted", "ensemble_accuracy"]
    assert values["weights", "training_epochs"] == values["activations", "training_epochs"] == 0


def test_published_members_beside_the_benchmark_file(bundle: Path) -> None:
    """A relative path is relative to the folder of the benchmark file, as for the method `published`."""
    options = {"path": "bundle", "of": "deep"}
    file = bundle.parent / "mine.yaml"
    content = {**CONTENT, "seeds": [0], "methods": [{"aligned": {"of": {"published": options}}}, {"published": options}]}
    file.write_text(yaml.safe_dump(content))
    graph = plan(load_benchmark(file, toys.catalogue()).located(bundle.parent))
    aligned, published = (keys(graph, label) for label in ("aligned", "published"))
    assert aligned[0] == published[0]
    assert aligned[1] != published[1]


def test_published_members_that_are_not_there(graph_of: GraphOf, tmp_path: Path) -> None:
    """The cell cannot be planned, and one line says where the bundle was looked for."""
    of = {"published": {"path": str(tmp_path / "nowhere"), "of": "deep"}}
    graph = graph_of(methods=[{"aligned": {"of": of}}])
    (problem,) = {cell.problem for cell in graph.cells}
    where = f"method 'aligned' on blobs × perceptron: method 'published': {tmp_path / 'nowhere'}"
    assert problem == f"{where}: no such folder; name one that `harness publish DIR --to FOLDER` has written"


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


@pytest.mark.parametrize("name", ["weights", "joint_weights", "c2m3", "activations"])
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
