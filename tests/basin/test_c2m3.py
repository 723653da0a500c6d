"""The alignment `c2m3`: its facts, its options, and members that it cannot align."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import toys
from conftest import Lab
from harness import DerivationContext, StateDict, TaskFailed
from harness.errors import BenchmarkError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness.testing import derivation_context
from harness_basin.alignments import CycleConsistentAlignment
from harness_basin.matching import Mismatch

GraphOf = Callable[..., Graph]

CATALOGUE = toys.catalogue()


@pytest.fixture
def context(tmp_path: Path) -> DerivationContext:
    """Return a context for wide perceptrons."""
    return derivation_context(toys.Perceptron(toys.Perceptron.Options(width=40)), toys.Blobs(), tmp_path)


def members(context: DerivationContext, count: int) -> list[StateDict]:
    """Return weights that have nothing in common."""
    found = []
    for seed in range(count):
        torch.manual_seed(seed)
        state = context.network().state_dict()
        found.append({name: torch.randn_like(tensor) for name, tensor in state.items()})
    return found


def derived(context: DerivationContext, parents: Sequence[StateDict], **options: Any) -> tuple[Any, Mapping[str, Any]]:
    """Return aligned members and facts."""
    alignment = CycleConsistentAlignment(CycleConsistentAlignment.Options(members=len(parents), **options))
    return alignment.derive(parents, context)


def test_facts(context: DerivationContext) -> None:
    """They say what the search reached, what rounding lost, and what it cost."""
    aligned, facts = derived(context, members(context, 3))
    assert len(aligned) == len(facts["function_differences"]) == 3
    assert max(facts["function_differences"]) < 1e-12
    assert facts["trace"][0] == pytest.approx(facts["start_objective"], rel=1e-9)
    assert facts["trace"][-1] == facts["relaxed_objective"]
    assert facts["objective"] == facts["rounded_objective"] > facts["start_objective"]
    assert facts["worse_than_identity"] is False
    assert facts["steps"] == len(facts["trace"]) - 1
    assert facts["assignments"] >= 3 * facts["steps"]
    assert facts["images"] == facts["gradient_steps"] == 0


def test_descent_after_the_search(context: DerivationContext) -> None:
    """Multi-PCD from the rounded permutations can only raise the objective, which both are reported."""
    _, plain = derived(context, members(context, 3))
    _, facts = derived(context, members(context, 3), descent=True)
    assert facts["rounded_objective"] == plain["objective"]
    assert facts["objective"] >= facts["rounded_objective"]
    assert facts["assignments"] > plain["assignments"]


def test_result_that_is_worse_than_the_given_weights(context: DerivationContext) -> None:
    """One step from the center rounds to permutations that are worse than those of aligned members, and the facts say so."""
    (state,) = members(context, 1)
    _, facts = derived(context, [state, state, state], start="uniform", max_steps=1)
    assert facts["objective"] < facts["start_objective"]
    assert facts["worse_than_identity"] is True


@pytest.mark.parametrize("count", [1, 2])
def test_few_members(context: DerivationContext, count: int) -> None:
    """The first member stays; a single one has the objective 0."""
    parents = members(context, count)
    aligned, facts = derived(context, parents)
    assert all(torch.equal(aligned[0][name], tensor) for name, tensor in parents[0].items())
    assert (facts["objective"] == 0.0) == (count == 1)


def test_member_of_another_architecture(context: DerivationContext) -> None:
    """The message names the member and the parameter."""
    parents = members(context, 2)
    parents[1] = {**parents[1], "1.bias": torch.zeros(3)}
    with pytest.raises(Mismatch, match=r"^parent 1 of the alignment: parameter '1\.bias' has shape \(3,\), the network's "):
        derived(context, parents)


def test_member_that_has_diverged(context: DerivationContext) -> None:
    """The cell fails, with the reason."""
    parents = members(context, 3)
    parents[2]["1.bias"].fill_(float("nan"))
    with pytest.raises(TaskFailed, match=r"^parent 2 of the alignment: '1\.bias' has values that are not finite; has this"):
        derived(context, parents)


def test_run(graph_of: GraphOf, lab: Lab) -> None:
    """A benchmark with `c2m3` runs; aligned members have the accuracy of the deep ones."""
    by = ["c2m3", {"c2m3": {"start": "uniform", "restarts": 2, "max_steps": 20, "descent": True}}]
    graph = graph_of(methods=["deep", {"aligned": {"grid": {"by": by}}}], members=3, catalogue=CATALOGUE)
    lab.run(graph, CATALOGUE)
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert "aligned@1+cycle_consistent_matching@1+deep@1" in set(rows["method_version"])
    assert rows[rows["metric"] == "ensemble_accuracy"]["value"].nunique() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_steps": 0}, r"aligned\.by\.c2m3\.max_steps: 0 is out of range; an integer of at least 1"),
        ({"restarts": 0}, r"aligned\.by\.c2m3\.restarts: 0 is out of range; an integer of at least 1"),
        ({"tolerance": -1.0}, r"aligned\.by\.c2m3\.tolerance: -1\.0 is out of range; a number of at least 0"),
        ({"start": "random"}, r"aligned\.by\.c2m3\.start: unknown value 'random'; known: identity, uniform$"),
        ({"steps": 3}, r"unknown key 'steps'; did you mean 'max_steps'\? known: descent, max_steps, members, "),
        ({"members": 4}, r"by: members is 4; leave it out: it is the benchmark's \(3\)$"),
    ],
    ids=str,
)
def test_wrong_options(graph_of: GraphOf, options: dict[str, Any], message: str) -> None:
    """They are refused before anything runs, in one line."""
    with pytest.raises(BenchmarkError, match=message) as error:
        graph_of(methods=[{"aligned": {"by": {"c2m3": options}}}])
    assert len(str(error.value).splitlines()) == 1
