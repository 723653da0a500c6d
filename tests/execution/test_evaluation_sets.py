"""Evaluation sets in a run: each member is predicted once per split, whatever number of metrics asks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

import harness
import toys
from conftest import Lab
from harness import DataError, EvaluationSet, MetricValue, Split
from harness.api.specs import MeasureSpec, PredictSpec, task_spec_from_json
from harness.errors import BenchmarkError, PluginError
from harness.execution.queue import TaskQueue
from harness.execution.rows import rows
from harness.execution.task_inputs import objects_of
from harness.plan.graph import Graph
from harness.registry.catalogue import Catalogue
from harness.runs.task_texts import doing
from harness.telemetry.events import TaskEnded

GraphOf = Callable[..., Graph]


class DarkOptions(harness.Options):
    """How dark the images are, and which of the two splits are used."""

    names: tuple[str, ...] = ("half", "quarter")
    shift: int = 0


class Dark(EvaluationSet):
    """Blobs' test images, half and a quarter as bright."""

    name, version = "dark", 1
    datasets = ("blobs",)
    Options = DarkOptions

    def splits(self, dataset: harness.Dataset) -> Sequence[str]:
        return self.options.names

    def fingerprint(self, dataset: harness.Dataset, split: str) -> str:
        return f"{split} {self.options.shift}"

    def load(self, dataset: harness.Dataset, split: str, root: Path) -> Split:
        _, test = dataset.load(root)
        factor = {"half": 2, "quarter": 4}[split]
        return Split(test.images // factor + self.options.shift, test.labels)


class Static(EvaluationSet):
    """Noise: images of none of the classes."""

    name, version = "static", 1
    datasets = ("blobs",)
    paired = False
    out_of_distribution = True

    def splits(self, dataset: harness.Dataset) -> Sequence[str]:
        return ("static",)

    def fingerprint(self, dataset: harness.Dataset, split: str) -> str:
        return "static"

    def load(self, dataset: harness.Dataset, split: str, root: Path) -> Split:
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (20, *dataset.shape), generator=generator, dtype=torch.uint8)
        return Split(images, torch.zeros(20, dtype=torch.int64))


CATALOGUE = toys.catalogue(("evaluation_set", Dark), ("evaluation_set", Static))
METRICS = [
    "ensemble_accuracy",
    {"shift_accuracy": {"splits": "dark"}},
    {"shift_negative_log_likelihood": {"splits": "dark"}},
    {"shift_calibration_error": {"splits": "dark"}},
    {"shift_accuracy": {"splits": {"dark": {"names": ["half"]}}, "label": "half"}},
    {"ood_auroc": {"splits": "static"}},
    {"ood_fpr95": {"splits": "static"}},
]


def predictions(graph: Graph) -> list[PredictSpec]:
    """Return the specs of all predictions of a plan."""
    return [task.spec for task in graph.tasks.values() if isinstance(task.spec, PredictSpec)]


def test_one_pass_per_member_and_split(lab: Lab, graph_of: GraphOf) -> None:
    """Six metrics on three splits, and two methods that share members, take one prediction per member and split."""
    graph = graph_of(CATALOGUE, methods=["deep", {"deep": {"label": "again"}}], members=2, metrics=METRICS)
    passes = Counter((spec.weights, spec.evaluation.split if spec.evaluation else "test") for spec in predictions(graph))
    assert len(passes) == 2 * 4
    assert set(passes.values()) == {1}
    state = lab.run(graph, CATALOGUE)
    assert not state.failures
    done = Counter(event.kind for event in lab.events if isinstance(event, TaskEnded) and event.status == "done")
    assert done["predict"] == 8
    texts = [doing(event, graph.tasks.get(event.task)) for event in lab.events if isinstance(event, TaskEnded)]
    assert "predicting member 1 on dark half of deep and 1 more, seed 0, perceptron on blobs" in texts
    assert "predicting member 1 of deep and 1 more, seed 0, perceptron on blobs" in texts


def test_fifty_splits_of_one_set(graph_of: GraphOf) -> None:
    """Fifty splits and four metrics are fifty predictions per member beside that of the test images."""

    class Many(Dark):
        name = "many"

        def splits(self, dataset: harness.Dataset) -> Sequence[str]:
            return [f"noise/{number}" for number in range(50)]

    catalogue = toys.catalogue(("evaluation_set", Many))
    names = ["shift_accuracy", "shift_member_accuracy", "shift_negative_log_likelihood", "shift_calibration_error"]
    graph = graph_of(catalogue, methods=["deep"], members=3, metrics=[{name: {"splits": "many"}} for name in names])
    assert len(predictions(graph)) == 3 * 51


def test_values_are_those_of_the_networks(lab: Lab, graph_of: GraphOf) -> None:
    """The predictions on a split are the logits of the members on its images."""
    found: dict[str, np.ndarray] = {}

    class Look(harness.Metric):
        name = "look"

        class Options(harness.Options):
            splits: harness.PluginChoice = harness_field()

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Iterable[MetricValue]:
            _, test = toys.Blobs().load(Path())
            for split, seen in ensemble.predictions_on(self.chosen["splits"]):
                factor = {"half": 2, "quarter": 4}[split]
                images = (test.images // factor).float() / 255
                for member in range(ensemble.size):
                    network = ensemble.network_at(np.eye(ensemble.size)[member]).double()
                    with torch.no_grad():
                        expected = network(((images - 0.5) / 0.25).double()).numpy()
                    np.testing.assert_allclose(seen.logits[member], expected, rtol=1e-4, atol=1e-4)
                np.testing.assert_array_equal(seen.labels, test.labels.numpy())
                found[split] = seen.logits
            with pytest.raises(ValueError, match=r"^evaluation set 'static': no option of this metric names it$"):
                list(ensemble.predictions_on(Static()))
            yield MetricValue("look", 1.0)

    catalogue = toys.catalogue(("evaluation_set", Dark), ("metric", Look))
    state = lab.run(graph_of(catalogue, methods=["deep"], members=2, metrics=["look"]), catalogue)
    assert not state.failures, state.failures
    assert list(found) == ["half", "quarter"]


def harness_field() -> object:
    """Return an option that names an evaluation set."""
    from pydantic import Field

    return Field("dark", json_schema_extra={"plugin": "evaluation_set"})


def test_a_metric_without_evaluation_sets_has_none(lab: Lab, graph_of: GraphOf) -> None:
    """Asking for predictions on a set that no option names is an error of the metric."""

    class Rude(harness.Metric):
        name = "rude"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Iterable[MetricValue]:
            next(iter(ensemble.predictions_on(Dark())))
            yield MetricValue("rude", 1.0)

    catalogue = toys.catalogue(("metric", Rude))
    state = lab.run(graph_of(catalogue, methods=["deep"], members=1, metrics=["rude"]), catalogue)
    (failure,) = set(state.failures.values())
    assert "evaluation set 'dark': no option of this metric names it" in str(failure)


def keys(graph: Graph) -> dict[str, str]:
    """Return the keys of the measurements of a plan's only cell, by label."""
    (cell,) = graph.cells
    return {label: task.key for label, task in cell.measures.items()}


def test_keys_of_other_metrics_do_not_change(graph_of: GraphOf) -> None:
    """A metric without an evaluation set has the identity that it always had."""
    graph = graph_of(CATALOGUE, methods=["deep"], members=2, metrics=METRICS)
    plain = graph_of(CATALOGUE, methods=["deep"], members=2, metrics=["ensemble_accuracy"])
    assert keys(graph)["ensemble_accuracy"] == keys(plain)["ensemble_accuracy"]
    (cell,) = plain.cells
    spec = cell.measures["ensemble_accuracy"].spec
    assert isinstance(spec, MeasureSpec)
    assert set(spec.identity) == {"kind", "format", "metric", "members", "setting", "seed"}
    for prediction in predictions(plain):
        assert prediction.identity["split"] == "test"


def test_fingerprint_is_part_of_the_keys(graph_of: GraphOf) -> None:
    """Other images have other keys; a selection of splits shares the predictions."""

    def planned(choice: object) -> Graph:
        return graph_of(CATALOGUE, methods=["deep"], members=1, metrics=[{"shift_accuracy": {"splits": choice}}])

    plain, brighter, half = planned("dark"), planned({"dark": {"shift": 3}}), planned({"dark": {"names": ["half"]}})
    assert keys(plain) != keys(brighter)
    assert keys(plain) != keys(half)
    tasks = [{key for key, task in graph.tasks.items() if task.kind == "predict"} for graph in (plain, brighter, half)]
    assert len(tasks[0] & tasks[1]) == 1  # the test images
    assert tasks[2] < tasks[0]


def test_specs_can_be_read_back(graph_of: GraphOf) -> None:
    """Task files hold the split of a prediction and the predictions of a measurement; both are inputs of the task."""
    graph = graph_of(CATALOGUE, methods=["deep"], members=2, metrics=METRICS)
    for task in graph.tasks.values():
        read = task_spec_from_json(task.spec.to_json())
        assert read.to_json() == task.spec.to_json()
        assert set(objects_of(task.spec)) <= set(task.parents)
        if isinstance(task.spec, MeasureSpec):
            assert set(objects_of(task.spec)) == set(task.parents)


def test_predictions_on_evaluation_sets_come_last(graph_of: GraphOf) -> None:
    """They are handed out after trainings that are ready, all members of a split at once."""
    graph = graph_of(CATALOGUE, methods=["deep"], members=3, metrics=METRICS)
    queue = TaskQueue(graph.pending(_Empty()))
    groups = []
    while queue:
        group = queue.take()
        groups.append(group)
        for task in group:
            queue.finish(task.key)
    of_splits = []
    for group in groups:
        spec = group[0].spec
        if isinstance(spec, PredictSpec) and spec.evaluation is not None:
            of_splits.append((spec.evaluation.split, len(group)))
    assert sorted(of_splits) == [("half", 3), ("quarter", 3), ("static", 3)]


class _Empty:
    """A store without objects."""

    def has(self, key: str) -> bool:
        return False

    def epochs(self, trajectory: str) -> dict[str, str]:
        return {}


def test_rows_of_a_board(lab: Lab, graph_of: GraphOf) -> None:
    """Clean, shifted and foreign columns are main values; splits are details."""
    graph = graph_of(CATALOGUE, methods=["deep"], members=2, metrics=METRICS)
    state = lab.run(graph, CATALOGUE)
    found = rows(graph, state)
    main = [row.metric for row in found if row.main and row.unit != "epochs"]
    assert main == [
        "ensemble_accuracy",
        "shift_accuracy",
        "shift_negative_log_likelihood",
        "shift_calibration_error",
        "half",
        "ood_auroc",
        "ood_fpr95",
    ]
    details = {row.metric for row in found if not row.main}
    assert {"shift_accuracy/half", "shift_accuracy/quarter", "shift_mean_error", "ood_auroc/static"} <= details
    version = next(row.metric_version for row in found if row.metric == "half")
    assert version == 'shift_accuracy@1{"splits":{"dark":{"names":["half"]}}}+dark@1'


class Moved(toys.Blobs):
    """Blobs under another name."""

    name = "moved"


class Gray(EvaluationSet):
    """Images of three channels."""

    name, version = "gray", 1
    shape = (3, 4, 4)
    splits = fingerprint = load = None  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("catalogue", "changes", "message"),
    [
        (
            toys.catalogue(("evaluation_set", Dark), ("dataset", Moved)),
            {"datasets": ["moved"], "metrics": [{"shift_accuracy": {"splits": "dark"}}]},
            r"toy\.yaml:\d+:\d+: shift_accuracy\.splits: evaluation set 'dark' exists for blobs, not for data set 'moved'; "
            "there is none like it$",
        ),
        (
            CATALOGUE,
            {"metrics": [{"shift_accuracy": {"splits": "c_like"}}]},
            r"evaluation set 'c_like' exists for images with .*; known for it: dark$",
        ),
        (
            CATALOGUE,
            {"metrics": [{"ood_auroc": {"splits": "svhn"}}]},
            r"evaluation set 'svhn' has images of 32×32 pixels with 3 channels; those of data set 'blobs' are 4×4 pixels "
            "with 1 channel; known for it: photo_patches, static$",
        ),
        (
            CATALOGUE,
            {"metrics": [{"ood_auroc": {"splits": "dark"}}]},
            r"ood_auroc: splits: 'dark' has images of the data set's classes; shift_accuracy and ",
        ),
        (
            CATALOGUE,
            {"metrics": [{"shift_accuracy": {"splits": "drak"}}]},
            r"shift_accuracy\.splits: unknown evaluation set 'drak'; did you mean 'dark'",
        ),
        (
            CATALOGUE,
            {"metrics": [{"shift_accuracy": {"splits": {"c_like": {"severities": [0]}}}}]},
            r"toy\.yaml:\d+:\d+: shift_accuracy\.splits\.c_like\.severities: severity 0 does not exist; from 1 to 5",
        ),
        (
            CATALOGUE,
            {"datasets": ["digits"], "metrics": [{"shift_accuracy": {"splits": {"c_like": {"corruptions": ["saturate"]}}}}]},
            r"shift_accuracy\.splits: corruption 'saturate' needs color, .* are gray; allowed: gaussian_noise, ",
        ),
    ],
    ids=["another data set", "another size", "other channels", "other kind", "misspelt", "severity", "gray"],
)
def test_mistakes_in_a_benchmark_file(
    benchmark_of: Callable[..., object], catalogue: Catalogue, changes: dict[str, object], message: str
) -> None:
    """Each is one line with its place, before anything is planned."""
    with pytest.raises(BenchmarkError, match=message) as raised:
        benchmark_of(catalogue, **changes)
    assert len(str(raised.value).splitlines()) == 1


def test_missing_file_is_found_when_the_benchmark_is_located(
    benchmark_of: Callable[..., harness.bundles.Bundle], tmp_path: Path
) -> None:
    """`harness plan` and `harness run` locate every evaluation set on every data set before anything is trained."""

    class Lost(Dark):
        name = "lost"

        def locate(self, dataset: harness.Dataset, root: Path) -> None:
            raise DataError(f"{root}/lost.npy: not there; put it there")

    catalogue = toys.catalogue(("evaluation_set", Lost))
    benchmark = benchmark_of(catalogue, metrics=[{"shift_accuracy": {"splits": "lost"}}])
    with pytest.raises(DataError, match=r"lost\.npy: not there; put it there$"):
        benchmark.located(tmp_path)


def test_exceptions_of_an_evaluation_set(benchmark_of: Callable[..., object], graph_of: GraphOf, tmp_path: Path) -> None:
    """They are errors of one line that name it."""

    class Broken(Dark):
        name = "broken"

        def locate(self, dataset: harness.Dataset, root: Path) -> None:
            raise KeyError("x")

        def splits(self, dataset: harness.Dataset) -> Sequence[str]:
            return "half"

    catalogue = toys.catalogue(("evaluation_set", Broken))
    metrics = [{"shift_accuracy": {"splits": "broken"}}]
    with pytest.raises(PluginError, match=r"^broken: locate raised KeyError: 'x' "):
        benchmark_of(catalogue, metrics=metrics).located(tmp_path)
    (problem,) = {cell.problem for cell in graph_of(catalogue, methods=["deep"], metrics=metrics).cells}
    assert "evaluation set 'broken': splits gave 'half'; a list of printable names of 1 to 60 characters is expected" in problem


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (
            Split(torch.zeros(3, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64)),
            r"its images are \(3, 3, 4, 4\)",
        ),
        (Split(torch.zeros(0, 1, 4, 4, dtype=torch.uint8), torch.zeros(0, dtype=torch.int64)), "it is empty"),
    ],
    ids=["channels", "no images"],
)
def test_images_of_another_form(lab: Lab, graph_of: GraphOf, split: Split, message: str) -> None:
    """A set that declares no shape and gives other images is found before anything is trained."""

    class Odd(Dark):
        name = "odd"

        def load(self, dataset: harness.Dataset, name: str, root: Path) -> Split:
            return split

    catalogue = toys.catalogue(("evaluation_set", Odd))
    graph = graph_of(
        catalogue, methods=["deep"], members=1, metrics=["ensemble_accuracy", {"shift_accuracy": {"splits": "odd"}}]
    )
    state = lab.run(graph, catalogue)
    expected = r"evaluation set 'odd' of .*: load gave a split 'half' that is not .*: " + message
    assert any(re.search(expected, text) for text in state.failures.values())
    assert not state.trained
