"""`harness verify`: what agrees, what is found to be forged, and which bundles are refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch

import harness
import toys
from bundles.toy_bundles import copied, differences, edit_json, first_member, publish_toys, refit, run_toys, verify_toys
from harness.bundles.run_files import board_of
from harness.bundles.tolerances import Comparison, same_kind
from harness.registry.catalogue import load_catalogue
from harness.results.rows import load_rows

Row = dict[str, str]


def edit_rows(bundle: Path, change: Callable[[list[Row]], object], *, board: bool = True) -> None:
    """Change the rows of a bundle, and make board and digests fit, as a careful forger would."""
    path = bundle / "results.csv"
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    change(rows)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if board:
        (bundle / "leaderboard.md").write_text(board_of(load_rows(bundle)), encoding="utf-8")
    refit(bundle)


def row_of(rows: list[Row], metric: str, method: str = "permuted", seed: str = "0") -> Row:
    """Return a row."""
    return next(row for row in rows if (row["method"], row["seed"], row["metric"]) == (method, seed, metric))


def test_bundle_that_is_what_it_says(toy_bundle: Path) -> None:
    """Everything agrees, to the last bit on the same kind of machine."""
    findings = verify_toys(toy_bundle)
    assert findings.disagreements == []
    found = {finding.subject: finding.text for finding in findings}
    assert found["digests"] == "24 files match their digests"
    assert found["board"] == "leaderboard.md is the board of the 64 rows in results.csv"
    assert found["values of ensemble_accuracy"] == "12 values agree"
    assert found["values"].endswith("as published: compared exactly")
    assert found["plan"].startswith("costs, options and versions of 24 rows are those")


def test_metrics_on_an_evaluation_set_are_measured_again(tmp_path: Path) -> None:
    """Members are predicted on its splits again, and the values agree."""
    metrics = ["ensemble_accuracy", {"ood_auroc": {"splits": "photo_patches"}}]
    publish_toys(run_toys(tmp_path, seeds=[0], methods=["deep"], metrics=metrics), tmp_path / "bundle")
    findings = verify_toys(tmp_path / "bundle")
    assert findings.disagreements == []
    assert {finding.subject: finding.text for finding in findings}["values of ood_auroc"] == "2 values agree"


def test_bundle_of_another_machine(toy_bundle: Path, tmp_path: Path) -> None:
    """Values are compared within tolerances."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_json(bundle / "provenance.json", lambda facts: facts.update(processor="Another"))
    edit_rows(bundle, lambda rows: row_of(rows, "negative_log_likelihood").update(value=nudged(rows, 1 + 1e-6)))
    findings = verify_toys(bundle)
    assert findings.disagreements == []
    [text] = [finding.text for finding in findings if finding.subject == "values"]
    assert "published from Another with torch" in text
    assert text.endswith("compared within the metrics' tolerances")


def nudged(rows: list[Row], factor: float) -> str:
    """Return a value of a metric times a factor."""
    return repr(float(row_of(rows, "negative_log_likelihood")["value"]) * factor)


# Forgeries, with digests and board that fit


@pytest.mark.parametrize(
    ("metric", "column", "value", "expected"),
    [
        ("ensemble_accuracy", "value", "99.5", "published 99.5, measured "),
        ("joint_connectivity", "value", "-0.5", "published -0.5, measured "),
        ("joint_connectivity_worst_draw", "value", "0.0", "published 0.0, measured "),
        ("negative_log_likelihood", "value", "nan", "published nan, measured "),
        ("ensemble_accuracy", "standard_error", "0.01", "published with standard error 0.01, measured with "),
        ("ensemble_accuracy", "standard_error", "", "published with standard error None, measured with "),
        ("training_epochs", "value", "4.0", "published 4.0; the plan gives 8.0"),
        ("new_epochs", "value", "1.0", "published 1.0; the plan gives 0.0"),
        ("ensemble_accuracy", "key", "0" * 64, "its key is not that of these members, settings and options"),
        ("ensemble_accuracy", "metric", "ensemble_accuracy2", "the metric gives no such value"),
        ("ensemble_accuracy_logits", "metric", "other", "measured 'ensemble_accuracy_logits', of which results.csv has no row"),
        (
            "ensemble_accuracy",
            "better",
            "lower",
            "published with unit and direction percent, lower, measured with percent, higher",
        ),
        ("ensemble_accuracy_logits", "metric_version", "precision@1", "the benchmark has no such metric"),
        (
            "ensemble_accuracy",
            "metric_version",
            "precision@1",
            "the rows make no board: results.csv: metric 'ensemble_accuracy'",
        ),
    ],
)
def test_forged_number(toy_bundle: Path, tmp_path: Path, metric: str, column: str, value: str, expected: str) -> None:
    """It is found although board and digests were made to fit."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_rows(bundle, lambda rows: row_of(rows, metric).update({column: value}), board=column in ("value", "key", "metric"))
    found = differences(bundle)
    assert any(expected in text for text in found), found


def test_forged_board(toy_bundle: Path, tmp_path: Path) -> None:
    """A board that is not that of its rows is found, with the line."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    board = bundle / "leaderboard.md"
    lines = board.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[4] = lines[4].replace(".", "9.", 1)
    board.write_text("".join(lines), encoding="utf-8")
    refit(bundle)
    [found] = differences(bundle)
    assert found.startswith("board: leaderboard.md:5: is not the board of results.csv; the rows give '| deep ")


def test_row_that_is_missing(toy_bundle: Path, tmp_path: Path) -> None:
    """A bad seed cannot be left out."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_rows(bundle, lambda rows: rows.remove(row_of(rows, "joint_connectivity", "deep", "1")))
    expected = "plan: blobs × perceptron, deep, seed 1, joint_connectivity: the benchmark has it, results.csv has no row of it"
    assert expected in differences(bundle)


def test_row_of_an_invented_method(toy_bundle: Path, tmp_path: Path) -> None:
    """Numbers without members are found."""
    bundle = copied(toy_bundle, tmp_path / "bundle")

    def invent(rows: list[Row]) -> None:
        rows += [{**row, "method": "better"} for row in rows if row["method"] == "deep"]

    edit_rows(bundle, invent)
    found = differences(bundle)
    place = "blobs × perceptron, better, seed 0, ensemble_accuracy"
    assert f"plan: {place}: the benchmark has no such ensemble" in found
    assert f"rows: {place}: the bundle lists no members of this ensemble" in found


def test_forged_benchmark(toy_bundle: Path, tmp_path: Path) -> None:
    """Options that were not used are found: they give other rows in the plan."""
    bundle = copied(toy_bundle, tmp_path / "bundle")

    def change(facts: dict[str, Any]) -> None:
        facts["pairs"][0]["methods"][1]["options"]["restarts"] = 7

    edit_json(bundle / "benchmark.json", change)
    refit(bundle)
    assert any("permuted" in text and "options is" in text for text in differences(bundle))


def test_swapped_members(toy_bundle: Path, tmp_path: Path) -> None:
    """Weights in the folder of another member are found, with configurations and digests that fit."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    first, *_, last = sorted((bundle / "members").iterdir())
    (first / "model.safetensors").rename(tmp_path / "kept")
    (last / "model.safetensors").rename(first / "model.safetensors")
    (tmp_path / "kept").rename(last / "model.safetensors")
    contents = [json.loads((folder / "config.json").read_text())["weights"] for folder in (first, last)]
    for folder, weights in zip((first, last), reversed(contents), strict=True):
        edit_json(folder / "config.json", lambda facts, weights=weights: facts.update(weights=weights))
    refit(bundle)
    assert any("values of" in text for text in differences(bundle))


def test_swapped_members_without_their_configurations(toy_bundle: Path, tmp_path: Path) -> None:
    """The configuration has the digest of its weights."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    first, *_, last = sorted((bundle / "members").iterdir())
    shutil.copy(last / "model.safetensors", first / "model.safetensors")
    refit(bundle)
    [found] = differences(bundle)
    assert found == f"members: {first}: its config.json is of other weights than digests.json lists; was it changed?"


def test_member_that_was_taken_out(toy_bundle: Path, tmp_path: Path) -> None:
    """A member that an ensemble needs is missed, although no digest lists it."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    shutil.rmtree(first_member(bundle))
    refit(bundle)
    [found] = differences(bundle)
    assert found.startswith(f"members: {bundle}: has no weights of member {first_member(toy_bundle).name[:12]}; ")


def test_hidden_value(toy_bundle: Path, tmp_path: Path) -> None:
    """A row that was made to look failed is noted: it can be measured."""
    bundle = copied(toy_bundle, tmp_path / "bundle")

    def hide(rows: list[Row]) -> None:
        row = row_of(rows, "mean_member_accuracy", "deep", "1")
        rows[:] = [one for one in rows if one["key"] != row["key"] or one is row]
        row.update(status="failed", value="", standard_error="", message="no memory")

    edit_rows(bundle, hide)
    [note] = [finding.text for finding in verify_toys(bundle) if finding.subject == "values of mean_member_accuracy"][1:]
    assert note == "of 1 ensembles no value was published, though it can be measured"


def test_forged_warning(toy_bundle: Path, tmp_path: Path) -> None:
    """A warning about an ensemble is compared, too."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_rows(bundle, lambda rows: [row.update(warning="all alike") for row in rows if row["method"] == "deep"])
    expected = "blobs × perceptron, deep, seed 0, ensemble_accuracy: published with the warning 'all alike', measured with ''"
    assert f"values of ensemble_accuracy: {expected}" in differences(bundle)


def test_benchmark_that_is_too_large(toy_bundle: Path, tmp_path: Path) -> None:
    """Planning it would not end; a note says so."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_json(bundle / "benchmark.json", lambda facts: facts.update(members=10**9))
    refit(bundle)
    [note] = [finding.text for finding in verify_toys(bundle) if finding.subject == "plan"]
    assert "4 cells of 1000000000 members; at most 100000 of 10000" in note


def test_members_of_other_ensembles(toy_bundle: Path, tmp_path: Path) -> None:
    """Keys in provenance.json that are not those of the rows' ensembles are found."""
    bundle = copied(toy_bundle, tmp_path / "bundle")

    def exchange(facts: dict[str, Any]) -> None:
        members = facts["members"]
        members[0]["key"], members[1]["key"] = members[1]["key"], members[0]["key"]

    edit_json(bundle / "provenance.json", exchange)
    refit(bundle)
    expected = "blobs × perceptron, deep, seed 0: not the ensemble of the members listed in provenance.json"
    assert any(expected in text for text in differences(bundle))


def test_forged_contributions(toy_bundle: Path, tmp_path: Path) -> None:
    """Contributions of images whose mean fits are found all the same."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    path = bundle / "examples.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name][::-1] for name in stored}
    np.savez(path, **arrays)
    refit(bundle)
    found = differences(bundle)
    assert found
    assert all("the contributions of test images in examples.npz differ from those measured" in text for text in found)


def test_forged_value_without_members(toy_run: harness.Run, tmp_path: Path) -> None:
    """The contributions of images do not have the forged mean."""
    bundle = tmp_path / "bundle"
    publish_toys(toy_run, bundle, with_members=False)
    edit_rows(bundle, lambda rows: row_of(rows, "ensemble_accuracy").update(value="99.0"))
    [found] = differences(bundle)
    expected = "examples: blobs × perceptron, permuted, seed 0, ensemble_accuracy: results.csv has 99.0, the mean of its images"
    assert found.startswith(expected)


# Files


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda bundle: (bundle / "report.html").unlink(), "digests: report.html: not there"),
        (lambda bundle: (first_member(bundle) / "config.json").unlink(), "config.json: not there"),
        (
            lambda bundle: (first_member(bundle) / "model.safetensors").write_bytes(b"x"),
            " bytes, 1036 are listed: it was cut short",
        ),
        (lambda bundle: (bundle / "results.csv").write_bytes(b""), "are listed: it was cut short"),
        (lambda bundle: (bundle / "leaderboard.md").write_bytes(b"x" * 10_000), "are listed: it was changed"),
        (lambda bundle: (bundle / "more.txt").touch(), "digests: more.txt: not listed in digests.json"),
        (lambda bundle: (first_member(bundle) / "code.pkl").touch(), "code.pkl: not listed in digests.json"),
    ],
    ids=["missing", "member's file missing", "weights cut", "emptied", "longer", "extra", "extra in a member"],
)
def test_file_that_was_changed(toy_bundle: Path, tmp_path: Path, change: Callable[[Path], object], expected: str) -> None:
    """Each is found by its digest, and nothing else is read."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    size = (first_member(bundle) / "model.safetensors").stat().st_size
    change(bundle)
    [found] = differences(bundle)
    assert expected.replace("1036", str(size)) in found


def test_one_changed_bit(toy_bundle: Path, tmp_path: Path) -> None:
    """A file of the right size with another content is found."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    path = first_member(bundle) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    [found] = differences(bundle)
    assert found.endswith("model.safetensors: does not match its digest: it was changed")


def test_files_of_git_and_of_downloads(toy_bundle: Path, tmp_path: Path) -> None:
    """They are not part of a bundle, and not looked at."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    (bundle / ".gitattributes").touch()
    (bundle / ".cache" / "huggingface").mkdir(parents=True)
    (bundle / ".cache" / "huggingface" / "x.lock").touch()
    assert differences(bundle) == []


# What is no bundle, and what cannot be verified


def refusal(folder: Path, **options: Any) -> str:
    """Return the message for a folder that is refused: exit code 2."""
    with pytest.raises(harness.UserError) as error:
        verify_toys(folder, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    """The message says what to name."""
    folder = tmp_path / "no"
    assert refusal(folder) == f"{folder}: no such folder; name one that `harness publish DIR --to FOLDER` has written"


def test_bundle_cut_short(toy_bundle: Path, tmp_path: Path) -> None:
    """digests.json is written last: without it, the bundle is not complete."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    (bundle / "digests.json").unlink()
    expected = "no digests.json, so it is no bundle, or publishing was cut short; `harness publish` completes it"
    assert refusal(bundle) == f"{bundle}: {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"format": 1, "fil', "not readable as JSON: "),
        ("[]", "holds no JSON object; was it changed?"),
        ("[" * 100_000, "not readable as JSON: "),
        ('{"files": {}}', "format is None; a bundle of `harness publish` has format 1"),
        ('{"format": 2, "files": {}}', "format is 2; this version of basin-harness reads format 1: install a newer one"),
        ('{"format": 1}', "lists no files; was it changed?"),
        ('{"format": 1, "files": {"../../x": {}}}', "lists '../../x', which is no file of a bundle"),
        ('{"format": 1, "files": {"members/x/config.json": {}}}', "which is no file of a bundle"),
        ('{"format": 1, "files": {"results.csv": {"bytes": -1}}}', "results.csv: {'bytes': -1} is no digest"),
    ],
)
def test_digests_that_cannot_be_used(toy_bundle: Path, tmp_path: Path, text: str, expected: str) -> None:
    """One line says what is wrong with the file."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    (bundle / "digests.json").write_text(text)
    assert expected in refusal(bundle)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("benchmark.json", "{}", "lists no metrics (TypeError: "),
        ("provenance.json", '{"format": 1}', "does not list members (TypeError: "),
        ("provenance.json", '{"format": 9}', "format is 9; this version of basin-harness reads format 1"),
        (
            "provenance.json",
            '{"format": 1, "members": [{"key": "../../x"}]}',
            "does not list members (ValueError: key '../../x')",
        ),
    ],
)
def test_json_that_cannot_be_used(toy_bundle: Path, tmp_path: Path, name: str, text: str, expected: str) -> None:
    """With digests that fit, one line says what is wrong."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    (bundle / name).write_text(text)
    refit(bundle)
    assert expected in refusal(bundle)


def test_plugin_that_is_not_installed(toy_bundle: Path, tmp_path: Path) -> None:
    """The data set, the network or a metric is named."""
    assert refusal(toy_bundle, catalogue=load_catalogue()).startswith("unknown dataset 'blobs'")
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_json(bundle / "benchmark.json", lambda facts: facts["metrics"][0].update(name="secret"))
    refit(bundle)
    assert refusal(bundle).startswith("unknown metric 'secret'")


def test_plugin_of_another_version(toy_bundle: Path, tmp_path: Path) -> None:
    """Its results may differ, so nothing is measured with it."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_json(bundle / "benchmark.json", lambda facts: facts["metrics"][0].update(version=7))
    refit(bundle)
    assert refusal(bundle) == "metric 'ensemble_accuracy': version 1 is installed, the task needs 7"


def test_method_that_is_not_installed(tmp_path: Path) -> None:
    """Members are measured all the same; a note says that costs were not compared."""

    class Mine(harness.EnsembleBuilder):
        """One member."""

        name = "mine"

        def build(self, cell: harness.Cell) -> list[harness.Weights]:
            return [cell.trajectory(member=0).at(1), cell.trajectory(member=1).at(1)]

    catalogue = toys.catalogue(("ensemble_builder", Mine))
    run = run_toys(tmp_path, catalogue, methods=["mine"], seeds=[0], metrics=["ensemble_accuracy"])
    publish_toys(run, tmp_path / "bundle", catalogue=catalogue)
    findings = verify_toys(tmp_path / "bundle")
    assert findings.disagreements == []
    [note] = [finding.text for finding in findings if finding.subject == "plan"]
    assert note.startswith(
        "costs and options were not compared, since the benchmark cannot be planned here: unknown method 'mine'"
    )


def test_other_data(toy_bundle: Path) -> None:
    """A data set with another fingerprint is not that of the bundle."""

    class Changed(toys.Blobs):
        """Other images under the same name."""

        fingerprint = "blobs-2"

    message = refusal(toy_bundle, catalogue=toys.catalogue(("dataset", Changed)))
    assert message.startswith("data set 'blobs': the one under ")
    assert message.endswith("is not the published one: its fingerprint differs; name the right data root with --data")


def test_data_that_is_not_there(toy_bundle: Path) -> None:
    """Images that are missing are no difference: the bundle cannot be verified here, as a line says."""

    class Missing(toys.Blobs):
        """Images that are not on this machine."""

        def load(self, root: Path) -> tuple[harness.Split, harness.Split]:
            raise harness.DataError(f"blobs: not in {root}; put them there")

    message = refusal(toy_bundle, catalogue=toys.catalogue(("dataset", Missing)))
    assert message.startswith(f"blobs: not in {toy_bundle}; put them there")


def test_weights_of_another_network(toy_bundle: Path, tmp_path: Path) -> None:
    """Tensors that are not the architecture's are refused before they are used."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    folder = first_member(bundle)
    state = safetensors.torch.load_file(folder / "model.safetensors")
    state["1.weight"] = state["1.weight"][:, :-1].contiguous()
    safetensors.torch.save_file(state, folder / "model.safetensors")
    refit(bundle)
    weights = json.loads((bundle / "digests.json").read_text())["files"][f"members/{folder.name}/model.safetensors"]
    edit_json(folder / "config.json", lambda facts: facts["weights"].update(weights))
    refit(bundle)
    [found] = differences(bundle)
    assert found.startswith(f"members: {folder / 'model.safetensors'}: ")
    assert found.endswith("'1.weight' is float32 (12, 15), the network's float32 (12, 16); is it of another architecture?")


# Tolerances


class Own(harness.Metric):
    """A metric that declares a tolerance."""

    name = "own"
    tolerance = 5.0

    def measure(self, ensemble: harness.EvaluatedEnsemble) -> list[harness.MetricValue]:
        return [harness.MetricValue(self.name, 1.0)]


class Plain(Own):
    """One that declares none."""

    name = "plain"
    tolerance = None


@pytest.mark.parametrize(
    ("metric", "unit", "images", "expected"),
    [
        (Plain(), "percent", 10_000, 0.1),
        (Plain(), "percent", 400, 0.5),
        (Plain(), "nats", 400, 1e-4 + 2e-3),
        (Own(), "percent", 400, 5.0),
    ],
)
def test_tolerance(metric: harness.Metric, unit: str, images: int, expected: float) -> None:
    """It is the metric's, else a tenth of a percentage point or two images, else relative; on the same machine it is zero."""
    assert Comparison(False, images).tolerance(metric, unit, 2.0) == pytest.approx(expected)
    assert Comparison(True, images).tolerance(metric, unit, 2.0) == 0


@pytest.mark.parametrize(
    ("published", "measured", "expected"),
    [
        (1.0, 1.0, True),
        (1.0, 1.0 + 1e-12, False),
        (float("nan"), float("nan"), True),
        (float("nan"), 1.0, False),
        (float("inf"), float("inf"), True),
        (float("inf"), float("-inf"), False),
    ],
)
def test_exact_comparison(published: float, measured: float, expected: bool) -> None:
    """Values agree to the last bit, NaN with NaN and an infinity with itself."""
    assert Comparison(True, 10).agree(Plain(), "percent", published, measured) is expected


def test_kinds_of_machines() -> None:
    """Rounding is the same with the same processor, torch and NumPy, on the CPU."""
    here = {"machine": "x86_64", "processor": "P", "packages": {"torch": "2", "numpy": "2", "timm": "1"}}
    published = {**here, "packages": {**here["packages"], "timm": "0"}, "run": {"device": "cpu"}}  # type: ignore[dict-item]
    assert same_kind(published, here, "cpu")
    assert not same_kind(published, here, "cuda")
    assert not same_kind({**published, "run": {"device": "cuda"}}, here, "cpu")
    assert not same_kind({**published, "processor": "Q"}, here, "cpu")
    assert not same_kind({**published, "packages": {"torch": "3", "numpy": "2"}}, here, "cpu")
    assert not same_kind({}, here, "cpu")


def test_values_that_weights_do_not_tell(tmp_path: Path) -> None:
    """The time of an alignment is in the rows, and its absence from the comparison is said; all else agrees."""
    metrics: list[Any] = ["ensemble_accuracy", "derivation_cost", "weight_distance"]
    run = run_toys(tmp_path, metrics=metrics)
    rows = run.rows[run.rows.metric == "derivation_cost"]
    assert (rows[rows.method == "permuted"].value > 0).all()
    assert (rows[rows.method == "deep"].value == 0).all()
    publish_toys(run, tmp_path / "bundle")
    findings = verify_toys(tmp_path / "bundle")
    assert findings.disagreements == []
    found = {finding.subject: finding.text for finding in findings}
    assert found["values of derivation_cost"] == "not compared: they are of the derivations, not of the weights"
    assert found["values of weight_distance"] == "12 values agree"
