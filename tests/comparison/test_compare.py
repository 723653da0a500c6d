"""Paired differences from a baseline: rows and contributions of runs joined, judged and printed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from harness.cli.compare import compare as command
from harness.comparison import FORMATS, MethodDifference, compare_methods, read_compared_run, render_comparisons
from harness.comparison.formats import comparison_grids
from harness.errors import UserError
from harness.leaderboard.terminal import fit_grids
from harness.results.examples import write_examples
from harness.results.rows import Row, write_rows
from harness.statistics import crossed_difference, holm
from leaderboard.rows_and_boards import row

SEEDS = 7
BITS = np.random.default_rng(0).random((4, SEEDS, 300)) < np.array([0.90, 0.93, 0.901, 0.80])[:, None, None]
METHODS = ("deep", "swe", "permuted", "mine")


def key_of(method: str, seed: int, metric: str = "ensemble_accuracy") -> str:
    """Return the key of a measurement."""
    return hashlib.sha256(f"{method} {seed} {metric}".encode()).hexdigest()


def measured(method: str, seed: int, images: int = 300, **changes: Any) -> tuple[Row, np.ndarray]:
    """Return the row of a method's accuracy and its contributions."""
    bits = BITS[METHODS.index(method), seed, :images]
    return row(method, seed, 100 * float(bits.mean()), key=key_of(method, seed), **changes), bits


def write_run(folder: Path, rows: list[Row], bits: dict[str, np.ndarray], margins: dict[str, float] | None = None) -> Path:
    """Write the folder of a run."""
    folder.mkdir()
    write_rows(folder / "results.csv", rows)
    if bits:
        write_examples(folder / "examples.npz", bits.items())
    if margins is not None:
        (folder / "run.json").write_text(json.dumps({"benchmark": {"name": "paper", "equivalence": margins}}))
    return folder


def run_of(
    folder: Path,
    methods: tuple[str, ...] = METHODS,
    seeds: range = range(SEEDS),
    margins: dict[str, float] | None = None,
    more: tuple[Row, ...] = (),
    **changes: Any,
) -> Path:
    """Write the folder of a run with the accuracies of some methods and seeds."""
    rows = list(more)
    bits = {}
    for method in methods:
        for seed in seeds:
            line, own = measured(method, seed, **changes)
            rows.append(line)
            bits[line.key] = own
    return write_run(folder, rows, bits, margins)


def differences(*folders: Path, baseline: str | None = "deep", metrics: tuple[str, ...] = ()) -> dict[str, MethodDifference]:
    """Return the differences in the first metric of the first table, by method."""
    [table, *_] = compare_methods([read_compared_run(folder) for folder in folders], baseline, metrics)
    return {item.method: item for item in table.metrics[0].differences}


def printed(*arguments: str | Path) -> str:
    """Return what the command prints."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_seeds_and_images(tmp_path: Path) -> None:
    """Differences are those of tables of seeds × images, and p-values are adjusted over the three other methods."""
    found = differences(run_of(tmp_path / "r"))
    expected = [crossed_difference(100.0 * (BITS[number].astype(float) - BITS[0])) for number in (1, 2, 3)]
    adjusted = holm([item.p_value or 0.0 for item in expected])
    for method, reference, p_value in zip(METHODS[1:], expected, adjusted):
        difference = found[method].difference
        assert difference is not None
        assert difference.value == pytest.approx(reference.value)
        assert difference.interval() == pytest.approx(reference.interval())
        assert (difference.seeds, difference.images) == (SEEDS, 300)
        assert found[method].p_value == pytest.approx(p_value)
    assert [found[method].is_settled for method in METHODS[1:]] == [True, False, True]


def test_without_contributions(tmp_path: Path) -> None:
    """Without examples.npz, or with that of some seeds alone, the test is a paired t-test over seeds."""
    whole = run_of(tmp_path / "whole")
    (whole / "examples.npz").unlink()
    half = run_of(tmp_path / "half")
    write_examples(half / "examples.npz", [(key_of("deep", 0), BITS[0, 0])])
    means = 100 * BITS.mean(axis=2)
    for folder in (whole, half):
        difference = differences(folder)["swe"].difference
        assert difference is not None
        assert difference.p_value == pytest.approx(stats.ttest_rel(means[1], means[0]).pvalue)
        assert (difference.seeds, difference.images, difference.degrees) == (SEEDS, None, SEEDS - 1)


def test_runs_with_other_seeds_and_methods(tmp_path: Path) -> None:
    """Several folders give what one folder with all rows gives."""
    whole = run_of(tmp_path / "whole")
    parts = [
        run_of(tmp_path / "a", METHODS[:2], range(3)),
        run_of(tmp_path / "b", METHODS[:2], range(3, SEEDS)),
        run_of(tmp_path / "c", METHODS[2:]),
    ]
    assert differences(*parts) == differences(whole)


def test_default_baseline(tmp_path: Path) -> None:
    """It is the first method."""
    folder = run_of(tmp_path / "r")
    assert differences(folder, baseline=None) == differences(folder)


def test_unknown_baseline_and_metric(tmp_path: Path) -> None:
    """The errors suggest the nearest names."""
    folder = run_of(tmp_path / "r")
    with pytest.raises(UserError, match=r"^--baseline: no rows of method 'dep'; did you mean 'deep'\? known: deep, mine, "):
        differences(folder, baseline="dep")
    with pytest.raises(UserError, match=r"^no rows of metric 'accuracy'; did you mean 'ensemble_accuracy'\?"):
        differences(folder, metrics=("accuracy",))


def test_costs(tmp_path: Path) -> None:
    """Epochs are compared only if they are asked for."""
    costs = [row(method, 0, 36.0, "training_epochs", unit="epochs", better="") for method in METHODS]
    folder = run_of(tmp_path / "r", more=tuple(costs))
    [table] = compare_methods([read_compared_run(folder)])
    assert [metric.column.metric for metric in table.metrics] == ["ensemble_accuracy"]
    assert set(differences(folder, metrics=("training_epochs",))) == {"swe", "permuted", "mine"}


def test_missing_seeds(tmp_path: Path) -> None:
    """A method is compared over the seeds that it shares with the baseline, and a note names the others."""
    first, second = run_of(tmp_path / "a", ("deep",)), run_of(tmp_path / "b", ("swe",), range(2, SEEDS))
    difference = differences(first, second)["swe"].difference
    assert difference is not None
    assert difference.seeds == SEEDS - 2
    expected = "- ensemble_accuracy, swe: without seeds 0, 1, for which it or deep has no finite value\n"
    assert expected in printed(first, second)


def test_no_common_seed(tmp_path: Path) -> None:
    """There is no difference, and it does not count in the correction."""
    folders = run_of(tmp_path / "a", ("deep", "mine"), range(3)), run_of(tmp_path / "b", ("swe",), range(3, 6))
    found = differences(*folders)
    assert (found["swe"].difference, found["swe"].p_value) == (None, None)
    assert found["mine"].difference is not None
    assert found["mine"].p_value == pytest.approx(found["mine"].difference.p_value)
    [line] = [line for line in printed(*folders).splitlines() if "| swe " in line]
    assert [cell.strip() for cell in line.split("|")[2:8]] == ["swe", "—", "—", "—", "0", "—"]


def test_one_seed(tmp_path: Path) -> None:
    """The difference has no interval and no p-value."""
    folder = run_of(tmp_path / "r", seeds=range(1))
    found = differences(folder)["swe"]
    assert found.difference is not None
    assert (found.difference.interval(), found.p_value, found.more_seeds) == (None, None, None)
    assert "|               — |" in printed(folder)


def test_equivalence(tmp_path: Path) -> None:
    """The margin of the benchmark file is applied to its metric alone."""
    folder = run_of(tmp_path / "r", margins={"ensemble_accuracy": 4.0, "brier_score": 0.1})
    assert {name: item.equivalence for name, item in differences(folder).items()} == {
        "swe": "undecided",
        "permuted": "yes",
        "mine": "no",
    }
    assert "| yes (±4) |" in printed(folder).replace("  ", "")
    without = run_of(tmp_path / "without")
    assert differences(without)["swe"].equivalence is None
    assert "equivalent" not in printed(without)


def test_more_seeds(tmp_path: Path) -> None:
    """An undecided comparison has a number of seeds; one that is settled, by p or by equivalence, has none."""
    found = differences(run_of(tmp_path / "r", margins={"ensemble_accuracy": 4.0}))
    assert [found[method].more_seeds for method in ("permuted", "mine")] == [None, None]
    undecided = differences(run_of(tmp_path / "few", seeds=range(3)))["swe"]
    assert not undecided.is_settled
    assert "more seeds" in printed(tmp_path / "few")


def test_two_margins(tmp_path: Path) -> None:
    """Runs whose benchmarks declare different margins are refused."""
    folders = (
        run_of(tmp_path / "a", margins={"ensemble_accuracy": 1.0}),
        run_of(tmp_path / "b", margins={"ensemble_accuracy": 2.0}),
    )
    with pytest.raises(
        UserError, match=r"a and .*b: benchmark 'paper' declares the margins 1 and 2 for the equivalence of ensem"
    ):
        differences(*folders)


def test_test_sets_of_two_sizes(tmp_path: Path) -> None:
    """They cannot be paired."""
    folders = run_of(tmp_path / "a", ("deep",)), run_of(tmp_path / "b", ("swe",), images=200)
    with pytest.raises(
        UserError, match=r"ensemble_accuracy was measured on test sets of 200 and 300 images, which cannot be p"
    ):
        differences(*folders)


def test_two_settings(tmp_path: Path) -> None:
    """Runs of two settings, which test images are part of, are refused as on a board."""
    folders = run_of(tmp_path / "a", ("deep",), setting="a" * 64), run_of(tmp_path / "b", ("swe",), setting="b" * 64)
    with pytest.raises(
        UserError, match=r"come from two settings \(data set × architecture × recipe\), aaaaaaaaaaaa and bbbbbbbbbb"
    ):
        differences(*folders)


def test_two_metric_versions(tmp_path: Path) -> None:
    """Values of two versions of a metric are refused as on a board."""
    folders = run_of(tmp_path / "a", ("deep",)), run_of(tmp_path / "b", ("swe",), metric_version="ensemble_accuracy@2")
    with pytest.raises(
        UserError, match=r"has metric_version ensemble_accuracy@1 and ensemble_accuracy@2, which cannot stand in"
    ):
        differences(*folders)


def test_contributions_of_another_run(tmp_path: Path) -> None:
    """Contributions whose mean is not the row's value are refused."""
    folder = run_of(tmp_path / "r")
    write_examples(folder / "examples.npz", [(key_of(method, seed), BITS[3, 0]) for method in METHODS for seed in range(SEEDS)])
    with pytest.raises(
        UserError, match=r"the images of ensemble_accuracy of .*, seed 0 have mean .*, but its row in .* has .*; run"
    ):
        differences(folder)


def test_degenerate_ensembles(tmp_path: Path) -> None:
    """They are marked, and the notes say why."""
    folder = write_run(tmp_path / "r", [*(row("deep", seed, 94.0 + seed) for seed in range(3)),
        *(row("alone", seed, 95.0, members=1) for seed in range(3))], {})  # fmt: skip
    text = printed(folder)
    assert "| alone ‡  |" in text
    assert "- alone or deep: the ensemble has one member\n" in text


@pytest.mark.parametrize("form", FORMATS)
def test_formats(tmp_path: Path, form: str) -> None:
    """Every format names all methods, is the same each time, and `--out` writes it."""
    folder = run_of(tmp_path / "r", margins={"ensemble_accuracy": 4.0})
    text = printed(folder, "--format", form)
    assert all(method in text for method in METHODS)
    assert printed(folder, "--format", form, "--out", tmp_path / "out") == ""
    assert (tmp_path / "out").read_text() == text


def test_numbers_of_the_csv(tmp_path: Path) -> None:
    """They have all digits, and empty fields where there is nothing."""
    folder = run_of(tmp_path / "r")
    [line, *_] = csv.DictReader(io.StringIO(printed(folder, "--format", "csv")))
    difference = differences(folder)["swe"].difference
    assert difference is not None
    assert (line["method"], line["baseline"], float(line["difference"])) == ("swe", "deep", difference.value)
    assert (float(line["low"]), float(line["high"])) == difference.interval()
    assert (line["margin"], line["seeds"], line["images"], line["settled"]) == ("", "7", "300", "true")


def test_few_seeds(tmp_path: Path) -> None:
    """A note says what the intervals rest on, below six seeds."""
    assert "- Fewer than 6 seeds: the intervals rest on" in printed(run_of(tmp_path / "few", seeds=range(5)))
    assert "Fewer than" not in printed(run_of(tmp_path / "six", seeds=range(6)))


def test_one_method(tmp_path: Path) -> None:
    """There is nothing to compare."""
    assert printed(run_of(tmp_path / "r", ("deep",))) == "Nothing to compare: there is one method.\n"


def test_unknown_format(tmp_path: Path) -> None:
    """The error suggests the nearest one."""
    with pytest.raises(UserError, match=r"^unknown format 'htm'; did you mean 'html'\?"):
        render_comparisons((), "htm")


def test_terminal(tmp_path: Path) -> None:
    """The table fits a narrow terminal."""
    comparisons = compare_methods([read_compared_run(run_of(tmp_path / "r"))])
    assert max(map(len, fit_grids(comparison_grids(comparisons), "", 60).splitlines())) <= 60
