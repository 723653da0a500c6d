"""Moments of trainings, `swa` and `swag`: against NumPy over stored checkpoints, as Gaussians, resumed, and refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import harness
import toys
from conftest import RECIPE, Lab, stop_after
from harness import Cell, Moments, MomentWeights, Recipe, Setting, Weights, schedules
from harness.errors import BenchmarkError, Interrupted
from harness.plan.graph import Graph, PlannedCell
from harness.results.rows import read_rows
from harness_basin.cross_entropy import CrossEntropy
from harness_basin.samplers.weight_averaging import draw_sample

GraphOf = Callable[..., Graph]
RATE = 0.05
"""The cosine of 4 epochs with a peak of 0.1, without warm-up, is at it at epoch 2."""
SHORT = {**RECIPE, "warmup": 0.0}
RUN = {"rate": RATE, "last": 7}
EPOCHS = range(3, 8)
"""The epochs that this run collects."""


class EveryEpoch(harness.EnsembleBuilder):
    """The checkpoints that `swa` averages, each stored by a run of its own that collects nothing."""

    name, version = "every_epoch", 1

    def build(self, cell: Cell) -> Sequence[Weights]:
        run = cell.trajectory(member=0).at(2).fork(schedule=schedules.Constant(rate=RATE))
        return [run.at(epoch) for epoch in EPOCHS]


CATALOGUE = toys.catalogue(("ensemble_builder", EveryEpoch))


def cell(graph: Graph, label: str) -> PlannedCell:
    """Return the cell of a method."""
    (found,) = [one for one in graph.cells if one.spec.method.label == label]
    assert not found.problem
    return found


def weights(lab: Lab, handles: Sequence[Weights]) -> list[dict[str, np.ndarray]]:
    """Return stored weights."""
    return [load_file(str(lab.store.path(handle.location.object, handle.location.part))) for handle in handles]


def moments(lab: Lab, graph: Graph, label: str) -> list[dict[str, np.ndarray]]:
    """Return mean, mean of squares and deviations that the members of a method were derived from."""
    (derived, *_) = cell(graph, label).members
    assert isinstance(derived, harness.DerivedWeights)
    return weights(lab, MomentWeights.of(derived.parents[0]))


def test_moments_of_stored_checkpoints(graph_of: GraphOf, lab: Lab) -> None:
    """Mean and mean of squares are NumPy's; deviation k is from the mean of the epochs up to its own, the oldest dropped."""
    graph = graph_of(CATALOGUE, methods=["every_epoch", {"swag": {**RUN, "rank": 3}}], recipe=SHORT)
    lab.run(graph, CATALOGUE)
    checkpoints = weights(lab, cell(graph, "every_epoch").members)
    mean, square, *deviations = moments(lab, graph, "swag")
    assert len(deviations) == 3
    for name in checkpoints[0]:
        all_epochs = np.stack([checkpoint[name].astype(np.float64) for checkpoint in checkpoints])
        np.testing.assert_allclose(mean[name], all_epochs.mean(0), rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(square[name], (all_epochs**2).mean(0), rtol=1e-12, atol=1e-15)
        for column, deviation in enumerate(deviations):
            until = all_epochs[: column + 3]
            np.testing.assert_allclose(deviation[name], until[-1] - until.mean(0), rtol=1e-5, atol=1e-8)


def test_average_of_a_run(graph_of: GraphOf, lab: Lab) -> None:
    """It is NumPy's mean over the stored checkpoints, to float32; an ensemble of one network at the cost of the run."""
    graph = graph_of(CATALOGUE, methods=["deep", "every_epoch", {"swa": RUN}], recipe=SHORT)
    lab.run(graph, CATALOGUE)
    checkpoints = weights(lab, cell(graph, "every_epoch").members)
    (average,) = weights(lab, cell(graph, "swa").members)
    for name, tensor in average.items():
        expected = np.mean([checkpoint[name].astype(np.float64) for checkpoint in checkpoints], axis=0)
        np.testing.assert_allclose(tensor, expected, rtol=1e-6, atol=1e-9)
    assert (cell(graph, "swa").epochs_alone, cell(graph, "swa").epochs_new) == (7, 5)
    assert set(read_rows(lab.out)["status"]) == {"done"}


def test_average_of_another_methods_members(graph_of: GraphOf, lab: Lab) -> None:
    """With `of`, it is the uniform soup of that method: the same stored object."""
    fork = {"constrained": {"fork_epoch": 1}}
    graph = graph_of(methods=[{"swa": {"of": fork}}, {"soup": {"of": fork}}])
    assert cell(graph, "swa").members == cell(graph, "soup").members


def test_gaussian_of_scale_zero(graph_of: GraphOf, lab: Lab) -> None:
    """All samples are the average of the run, to float32 rounding; with equal ranks, `swa` and `swag` share the run."""
    swag = {"swag": {**RUN, "rank": 2, "scale": 0.0}}
    graph = graph_of(methods=[swag, {"swa": {**RUN, "rank": 2}}], recipe=SHORT, members=2)
    assert cell(graph, "swa").epochs_new == 0
    lab.run(graph)
    (average,) = weights(lab, cell(graph, "swa").members)
    for sample in weights(lab, cell(graph, "swag").members):
        for name in average:
            np.testing.assert_allclose(sample[name], average[name], rtol=1e-6, atol=1e-9)


def test_samples_differ_and_are_reproducible(graph_of: GraphOf, lab: Lab) -> None:
    """Members are different networks near the mean; a second plan gives the same keys."""
    graph = graph_of(methods=[{"swag": RUN}], recipe=SHORT)
    assert cell(graph_of(methods=[{"swag": RUN}], recipe=SHORT), "swag").members == cell(graph, "swag").members
    lab.run(graph)
    one, two, three = weights(lab, cell(graph, "swag").members)
    assert not np.array_equal(one["1.weight"], two["1.weight"])
    assert not np.array_equal(two["1.weight"], three["1.weight"])
    rows = read_rows(lab.out)
    assert set(rows["status"]) == {"done"}
    assert float(rows[rows["metric"] == "joint_connectivity"]["value"].iloc[0]) > -5


def test_samples_beyond_the_range_of_float32(graph_of: GraphOf, lab: Lab) -> None:
    """They fail their cell alone, in one line that names the weights; the average of the same run is there."""
    graph = graph_of(methods=[{"swag": {**RUN, "rank": 2, "scale": 1e300}}, {"swa": {**RUN, "rank": 2}}], recipe=SHORT)
    lab.run(graph)
    rows = read_rows(lab.out).groupby("method")
    (message,) = set(rows.get_group("swag")["message"]) - {""}
    expected = r"^weights around a run: '1\.(weight|bias)' is not finite; lower the scale of samples or the rate of the run$"
    assert re.search(expected, message)
    assert set(rows.get_group("swa")["status"]) == {"done"}


def test_covariance_of_samples() -> None:
    """100,000 samples of a toy of six parameters have the mean μ and the covariance s (diag σ² + D Dᵀ/(K − 1))."""
    generator = torch.Generator().manual_seed(0)
    mean = {"a": torch.randn(2, generator=generator).double(), "b": torch.randn(2, 2, generator=generator).double()}
    variance = {name: torch.rand(tensor.shape, generator=generator).double() for name, tensor in mean.items()}
    square = {name: variance[name] + mean[name].square() for name in mean}
    deviations = []
    for _ in range(3):
        deviations.append({name: torch.randn(tensor.shape, generator=generator) for name, tensor in mean.items()})
    samples = []
    for number in range(20_000):
        drawn = draw_sample(mean, square, deviations, 0.5, number)
        samples.append(torch.cat([drawn["a"], drawn["b"].flatten()]))
    found = torch.stack(samples).numpy()
    columns = np.stack([np.concatenate([d["a"].numpy(), d["b"].numpy().ravel()]) for d in deviations], axis=1).astype(float)
    flat = np.concatenate([variance["a"].numpy(), variance["b"].numpy().ravel()])
    expected = 0.5 * (np.diag(flat) + columns @ columns.T / 2)
    center = np.concatenate([mean["a"].numpy(), mean["b"].numpy().ravel()])
    np.testing.assert_allclose(found.mean(0), center, atol=5 * np.sqrt(expected.max() / 20_000))
    np.testing.assert_allclose(np.cov(found.T), expected, atol=5 * expected.max() * np.sqrt(2 / 20_000))


def test_collecting_that_is_interrupted(graph_of: GraphOf, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Stopped within an epoch, and continued from the saved state, it gives the same moments and samples, to the bit."""
    graph = graph_of(methods=[{"swag": {**RUN, "rank": 3}}], recipe=SHORT)
    whole = Lab(tmp_path_factory.mktemp("whole"))
    whole.run(graph)
    stopped = Lab(tmp_path_factory.mktemp("stopped"))
    for count in (40, 60):
        with pytest.raises(Interrupted):
            stopped.run(graph, stopping=stop_after(count))
    stopped.run(graph)
    assert len(stopped.trainings_started()) > 2
    for one, other in zip(moments(whole, graph, "swag"), moments(stopped, graph, "swag"), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    pairs = zip(*(weights(lab, cell(graph, "swag").members) for lab in (whole, stopped)), strict=True)
    for one, other in pairs:
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_collecting_that_is_continued(graph_of: GraphOf, lab: Lab) -> None:
    """A longer run continues from the shorter one's checkpoint, and has the moments of all epochs."""
    for last in (5, 7):
        graph = graph_of(CATALOGUE, methods=["every_epoch", {"swag": {**RUN, "last": last, "rank": 2}}], recipe=SHORT)
        lab.run(graph, CATALOGUE)
    mean, *_ = moments(lab, graph, "swag")
    checkpoints = weights(lab, cell(graph, "every_epoch").members)
    for name in mean:
        expected = np.mean([checkpoint[name].astype(np.float64) for checkpoint in checkpoints], axis=0)
        np.testing.assert_allclose(mean[name], expected, rtol=1e-12, atol=1e-15)


def test_moments_in_keys() -> None:
    """A training that collects is another one; without moments, the specification of a training has no such field."""
    setting = Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=10))
    made = Cell(setting, CrossEntropy(), 0, 3)
    plain = made.trajectory(0)
    assert "moments" not in plain.spec.to_json()
    assert made.trajectory(0, moments=Moments(first=2)) != plain
    assert plain.at(3).fork(moments=Moments(first=4)) != plain
    assert plain.at(3).fork() is plain


def test_weights_without_moments() -> None:
    """The error says why there are none."""
    made = Cell(Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=10)), CrossEntropy(), 0, 3)
    with pytest.raises(ValueError, match="these weights have no moments; give their training or fork `moments`"):
        MomentWeights.of(made.trajectory(0).at(3))
    with pytest.raises(ValueError, match="epoch 3 has no moments; they are collected from epoch 5 on"):
        MomentWeights.of(made.trajectory(0, moments=Moments(first=5)).at(3))


@pytest.mark.parametrize(
    ("method", "line"),
    [
        ({"swag": {"rate": 0.2}}, "rate is 0.2; below the peak of the schedule, learning_rate = 0.1"),
        ({"swa": {"rate": RATE, "last": 2}}, "last is 2; at least 3, the first epoch at the constant rate"),
        ({"swag": {**RUN, "rank": 6}}, "rank is 6; at most 5, the epochs at the constant rate"),
        ({"swa": {"of": {"constrained": {"fork_epoch": 9}}}}, "fork_epoch is 9; at most epochs - 1 = 3"),
    ],
    ids=str,
)
def test_options_that_do_not_fit(graph_of: GraphOf, method: Any, line: str) -> None:
    """The error says which option, its value, and what is allowed, before anything is trained."""
    with pytest.raises(BenchmarkError) as caught:
        graph_of(methods=[method], recipe=SHORT)
    assert caught.value.problems[0].endswith(f"on blobs × perceptron: {line}")
