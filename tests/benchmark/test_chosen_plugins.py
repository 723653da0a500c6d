"""Options that name another plugin: keys, messages with positions, and plugins of third parties."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import harness
import toys
from conftest import Lab
from harness import Correction, CorrectionContext
from harness.benchmark import load_benchmark
from harness.errors import BenchmarkError, UserError
from harness.plan.graph import Graph
from harness.results.rows import read_rows
from harness_metrics import JointConnectivity

GraphOf = Callable[..., Graph]


class Broken(Correction):
    """Fails."""

    name, version = "broken", 3

    class Options(harness.Options):
        """Options."""

        strength: int = 1

    def correct(self, context: CorrectionContext, point: np.ndarray, prepared: Any) -> Sequence[harness.Removable]:
        raise ValueError(f"strength {self.options.strength}")


CATALOGUE = toys.catalogue(("correction", Broken))


LISTS = "seeds: [0]\ndatasets: [blobs]\narchitectures: [perceptron]\nmethods: [deep]\nmetrics:\n"
RECIPE = "recipe: {batch_size: 32, augmentation: {crop_padding: 0, horizontal_flip: false}}\n"


def metric(correction: Any) -> harness.Metric:
    """Return the metric with a correction, as a benchmark file makes it."""
    made: harness.Metric = CATALOGUE.create("metric", "joint_connectivity", JointConnectivity.Options(correction=correction))
    return made


def test_identity_has_the_chosen_plugin() -> None:
    """Version and options, defaults included, of the chosen plugin are part of the keys; a worker gets an equal metric."""
    plain = metric("broken")
    assert plain.identity["chosen"] == {"correction": {"name": "broken", "version": 3, "options": {"strength": 1}}}
    assert metric({"broken": {"strength": 2}}).identity["chosen"]["correction"]["options"] == {"strength": 2}
    again = CATALOGUE.from_identity("metric", plain.identity)
    assert again.identity == plain.identity
    assert isinstance(again.chosen["correction"], Broken)


def test_identity_without_a_choice() -> None:
    """It is that of a metric without such an option."""
    assert set(metric(None).identity) == {"name", "version", "options"}


@pytest.mark.parametrize(
    ("correction", "line"),
    [
        ("repiar", "b.yaml:6:{at}: joint_connectivity.correction: unknown correction 'repiar'; did you mean 'repair'? known: "),
        ("{repair: {before: true}}", "b.yaml:6:{inner}: unknown key 'before'; known: before_normalization"),
        (
            "{repair: {before_normalization: 3}}",
            "b.yaml:6:{value}: joint_connectivity.correction.repair.before_normalization: 3 is not true or false",
        ),
        (
            "{repair: {}, none: {}}",
            "b.yaml:6:{at}: joint_connectivity.correction: {{'repair': {{}}, 'none': {{}}}} names 2 plugins; one name, or ",
        ),
        ("3", "b.yaml:6:{at}: joint_connectivity.correction: 3 is not "),
    ],
)
def test_messages_about_a_choice(tmp_path: Path, correction: str, line: str) -> None:
    """A misspelt name, an unknown option and a wrong value are reported at their place in the file."""
    start = "  - joint_connectivity: {correction: "
    path = tmp_path / "b.yaml"
    path.write_text(f"{LISTS}{start}{correction}}}\n{RECIPE}")
    with pytest.raises(BenchmarkError) as error:
        load_benchmark(path, CATALOGUE)
    at = len(start) + 1
    inner = at + len("{repair: {")
    expected = line.format(at=at, inner=inner, value=inner + len("before_normalization: "))
    (found,) = str(error.value).splitlines()
    assert expected in found


def test_choice_outside_a_file() -> None:
    """The catalogue refuses unknown names and options as a file does."""
    with pytest.raises(UserError, match="unknown correction 'nothing'"):
        metric("nothing")
    with pytest.raises(UserError, match="correction 'broken': option 'strength': 'x' cannot be read back"):
        metric({"broken": {"strength": "x"}})


def test_correction_of_a_third_party_fails_its_cell(graph_of: GraphOf, lab: Lab) -> None:
    """The message names the correction; other metrics of the cell are measured."""
    broken = {"joint_connectivity": {"draws": 2, "correction": {"broken": {"strength": 4}}, "label": "q_broken"}}
    lab.run(graph_of(metrics=["joint_connectivity", broken], catalogue=CATALOGUE), CATALOGUE)
    rows = read_rows(lab.out)
    main = rows[rows["main"]].groupby("metric")
    assert set(main.get_group("joint_connectivity")["status"]) == {"done"}
    (message,) = set(main.get_group("q_broken")["message"])
    assert message.startswith("correction 'broken': correct raised ValueError: strength 4")


def test_repair_in_a_run(graph_of: GraphOf, lab: Lab) -> None:
    """It changes the connectivity of independent networks; its rows have the label and the option."""
    repaired = {"joint_connectivity": {"correction": "repair", "label": "q_repair"}}
    plain = {"joint_connectivity": {"correction": "none", "label": "q_none"}}
    lab.run(graph_of(methods=["deep"], metrics=["joint_connectivity", plain, repaired]))
    rows = read_rows(lab.out)
    values = rows[rows["main"]].set_index("metric")
    assert values.loc["q_none", "value"] == values.loc["joint_connectivity", "value"]
    assert values.loc["q_repair", "value"] != values.loc["q_none", "value"]
    assert values.loc["q_repair", "metric_version"] == 'joint_connectivity@1{"correction":"repair"}+repair@1'
    assert {"q_repair_low", "q_repair_high", "q_repair_worst_draw"} <= set(rows["metric"])
