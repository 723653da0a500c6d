"""The method `published`: members of a bundle in a benchmark of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

import harness
import toys
from bundles.toy_bundles import CONTENT, copied, edit_json, publish_toys, run_toys, verify_toys
from harness.benchmark import load_benchmark
from harness.cli.check import check
from harness.plan.graph import Graph
from harness.plan.planner import plan
from harness.registry.catalogue import Catalogue


def planned(folder: Path, bundle: Path | str, catalogue: Catalogue | None = None, **changes: Any) -> Graph:
    """Return the plan of a benchmark file in a folder whose only method is that of a bundle."""
    options = {"path": str(bundle), "of": "deep", **changes.pop("options", {})}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, "methods": [{"published": options}], **changes}))
    return plan(load_benchmark(path, catalogue or toys.catalogue()).located(folder))


def keys_of(graph: Graph) -> list[str]:
    """Return the keys of all members; assert that all cells could be planned."""
    assert [cell.problem for cell in graph.cells] == [""] * len(graph.cells)
    return [member.key for cell in graph.cells for member in cell.members]


def test_rows_are_those_of_the_published_ensemble(toy_run: harness.Run, toy_bundle: Path, tmp_path: Path) -> None:
    """Every metric has the published value, beside a method of one's own, and 0 epochs are trained."""
    methods = [{"published": {"path": str(toy_bundle), "of": "permuted", "label": "theirs"}}, "deep"]
    run = run_toys(tmp_path, methods=methods)
    assert run.status == "done"
    rows = {(row.method, row.seed, row.metric): row.value for row in run.rows.itertuples()}
    for row in toy_run.rows.itertuples():
        if row.method == "permuted" and row.unit != "epochs":
            assert rows["theirs", row.seed, row.metric] == row.value
    for seed in (0, 1):
        assert rows["theirs", seed, "training_epochs"] == 0
        assert rows["deep", seed, "ensemble_accuracy"] is not None


def test_published_members_are_published_again(toy_bundle: Path, tmp_path: Path) -> None:
    """A bundle of a run that used a bundle is verified without the first one."""
    inner = copied(toy_bundle, tmp_path / "inner")
    run = run_toys(tmp_path, methods=[{"published": {"path": str(inner), "of": "deep"}}], seeds=[0])
    publish_toys(run, tmp_path / "outer")
    inner.rename(tmp_path / "gone")
    assert str(tmp_path) not in (tmp_path / "outer" / "benchmark.json").read_text()
    findings = verify_toys(tmp_path / "outer")
    assert findings.disagreements == []
    [note] = [finding.text for finding in findings if finding.subject == "plan"]
    assert note.startswith("costs and options were not compared")


def test_keys_depend_on_the_weights_alone(toy_bundle: Path, tmp_path: Path) -> None:
    """Neither the path nor the bundle's other files are in a key; the weights are."""
    first = keys_of(planned(tmp_path, toy_bundle))
    moved = copied(toy_bundle, tmp_path / "elsewhere")
    (moved / "README.md").touch()
    assert keys_of(planned(tmp_path, moved)) == first
    other = run_toys(tmp_path / "other", recipe={**CONTENT["recipe"], "learning_rate": 0.2})
    publish_toys(other, tmp_path / "theirs")
    assert set(keys_of(planned(tmp_path, tmp_path / "theirs"))).isdisjoint(first)


def test_path_is_relative_to_the_benchmark_file(toy_bundle: Path, tmp_path: Path) -> None:
    """It does not depend on the working folder."""
    copied(toy_bundle, tmp_path / "theirs")
    assert keys_of(planned(tmp_path, "theirs")) == keys_of(planned(tmp_path, toy_bundle))


def checked(folder: Path, bundle: Path | str, **changes: Any) -> tuple[int, str]:
    """Return the exit code and the output of `harness check` for such a file."""
    options = {"path": str(bundle), "of": "deep"}
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**CONTENT, "methods": [{"published": options}], **changes}))
    done = CliRunner().invoke(check, [str(path)], obj=toys.catalogue())
    return done.exit_code, done.output


def test_file_is_checked_with_its_bundle(toy_bundle: Path, tmp_path: Path) -> None:
    """`harness check` opens the bundle: a good file is good, and a bundle that does not fit is a problem."""
    assert checked(tmp_path, toy_bundle) == (0, f"{tmp_path / 'mine.yaml'}: good; 2 cells\n")
    missing = f"{tmp_path / 'theirs'}: no such folder; name one that `harness publish DIR --to FOLDER` has written"
    assert checked(tmp_path, "theirs") == (2, f"method 'published': {missing}\n")
    few = f"{toy_bundle}: deep, seed 0 has 2 members; members is 3"
    code, output = checked(tmp_path, toy_bundle, members=3)
    assert (code, output.splitlines()[0]) == (2, f"{PLACE}{few}")


def test_another_method_may_ask_for_it(toy_bundle: Path, tmp_path: Path) -> None:
    """`cell.build` finds the bundle, too."""

    class Asking(harness.EnsembleBuilder):
        """The members of a bundle."""

        name = "asking"

        def build(self, cell: harness.Cell) -> list[harness.Weights]:
            return list(cell.build("published", path="theirs", of="deep"))

    copied(toy_bundle, tmp_path / "theirs")
    catalogue = toys.catalogue(("ensemble_builder", Asking))
    assert keys_of(planned(tmp_path, "unused", catalogue, methods=["asking"])) == keys_of(planned(tmp_path, "theirs"))


def test_seed_of_the_bundle(toy_bundle: Path, tmp_path: Path) -> None:
    """Without `of_seed` it is the cell's own; with it, one ensemble serves all seeds."""
    graph = planned(tmp_path, toy_bundle, options={"of_seed": 1})
    digests = []
    for cell in graph.cells:
        digests.append([member.derivation.options.weights_sha256 for member in cell.members])  # type: ignore[attr-defined]
    assert digests[0] == digests[1]


def test_first_members_of_a_larger_ensemble(toy_bundle: Path, tmp_path: Path) -> None:
    """A smaller M takes the first ones."""
    assert (
        keys_of(planned(tmp_path, toy_bundle, members=1, metrics=["ensemble_accuracy"]))
        == keys_of(planned(tmp_path, toy_bundle))[::2]
    )


# What does not fit


def problem(folder: Path, bundle: Path | str, **changes: Any) -> str:
    """Return why the first cell cannot be planned."""
    return planned(folder, bundle, **changes).cells[0].problem


PLACE = "method 'published' on blobs × perceptron: "


def test_several_methods(toy_bundle: Path, tmp_path: Path) -> None:
    """One must be named."""
    expected = f"{PLACE}{toy_bundle}: has the methods deep, permuted; name one with `of`"
    assert problem(tmp_path, toy_bundle, options={"of": None}) == expected
    expected = f"{PLACE}{toy_bundle}: has no method 'swe'; known: deep, permuted"
    assert problem(tmp_path, toy_bundle, options={"of": "swe"}) == expected


def test_seed_that_was_not_published(toy_bundle: Path, tmp_path: Path) -> None:
    """The published ones are named."""
    expected = f"{PLACE}{toy_bundle}: deep has no seed 7; name one of 0, 1 with `of_seed`"
    assert problem(tmp_path, toy_bundle, seeds=[7]) == expected


def test_fewer_members(toy_bundle: Path, tmp_path: Path) -> None:
    """The message has both numbers."""
    assert problem(tmp_path, toy_bundle, members=5) == f"{PLACE}{toy_bundle}: deep, seed 0 has 2 members; members is 5"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"architectures": [{"perceptron": {"width": 13}}]},
            "its architecture is perceptron, the cell's perceptron with other options or another version",
        ),
        ({"architectures": ["vit"]}, "its architecture is perceptron, the cell's vit"),
        (
            {"datasets": ["digits"]},
            "its images are (1, 4, 4), the cell's (1, 8, 8); it has 4 classes, the cell 10; its data set is blobs",
        ),
        (
            {"recipe": {**CONTENT["recipe"], "normalization": [[0.5], [0.5]]}},
            "its images are normalized otherwise (recipe.normalization)",
        ),
    ],
    ids=["options", "architecture", "data set", "normalization"],
)
def test_bundle_of_another_setting(toy_bundle: Path, tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    """The cell fails with a line that names the difference; the run does not."""
    assert f": {toy_bundle}: does not fit this cell: {expected}" in problem(tmp_path, toy_bundle, **changes)


def test_data_set_of_another_fingerprint(toy_bundle: Path, tmp_path: Path) -> None:
    """Other images under the same name do not fit."""

    class Changed(toys.Blobs):
        """Other images."""

        fingerprint = "blobs-2"

    found = problem(tmp_path, toy_bundle, catalogue=toys.catalogue(("dataset", Changed)))
    assert found.endswith("its data set is blobs, the cell's blobs with other options or another version")


def test_bundle_without_members(toy_run: harness.Run, tmp_path: Path) -> None:
    """There is nothing to load."""
    publish_toys(toy_run, tmp_path / "rows", with_members=False)
    expected = "was published without members; `harness publish` without --no-members publishes them"
    assert problem(tmp_path, tmp_path / "rows") == f"{PLACE}{tmp_path / 'rows'}: {expected}"


def test_weights_cut_short(toy_bundle: Path, tmp_path: Path) -> None:
    """A member whose file has another size is found when the benchmark is planned."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    for member in (bundle / "members").iterdir():
        (member / "model.safetensors").write_bytes(b"cut")
    assert problem(tmp_path, bundle).endswith("; was it cut short?")
    for member in (bundle / "members").iterdir():
        (member / "model.safetensors").unlink()
    assert problem(tmp_path, bundle).endswith("model.safetensors: not there; was the bundle cut short?")


def test_configuration_of_other_weights(toy_bundle: Path, tmp_path: Path) -> None:
    """It does not match the digests."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    for member in (bundle / "members").iterdir():
        edit_json(member / "config.json", lambda facts: facts["weights"].update(sha256="0" * 64))
    assert problem(tmp_path, bundle).endswith("its config.json is of other weights than digests.json lists; was it changed?")


def test_changed_weights_fail_their_task(toy_bundle: Path, tmp_path: Path) -> None:
    """A changed bit is found when the weights are read; the ensemble fails, the others are done."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    for member in (bundle / "members").iterdir():
        content = (member / "model.safetensors").read_bytes()
        (member / "model.safetensors").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    run = run_toys(tmp_path, methods=[{"published": {"path": str(bundle), "of": "deep"}}, "deep"], seeds=[0])
    assert run.status == "failed"
    assert {failure["method"] for failure in run.failures} == {"published"}
    assert run.failures[0]["message"].endswith("model.safetensors: does not match its digest; was it changed?")


def test_missing_bundle_stops_before_the_run(tmp_path: Path) -> None:
    """One line names the folder."""
    with pytest.raises(harness.UserError) as error:
        planned(tmp_path, "theirs")
    expected = f"{tmp_path / 'theirs'}: no such folder; name one that `harness publish DIR --to FOLDER` has written"
    assert str(error.value) == f"method 'published': {expected}"


@pytest.mark.parametrize("path", ["~nobody-here/bundle", "~nobody-here"])
def test_path_in_a_home_folder_that_is_not_there(tmp_path: Path, path: str) -> None:
    """The line names path and user, as for every path that users give."""
    with pytest.raises(harness.UserError) as error:
        planned(tmp_path, path)
    assert str(error.value) == (
        f"method 'published': bundle {path}: there is no user 'nobody-here' here; write the path in full, or ./{path} for a "
        "folder of that name"
    )


def test_path_in_the_home_folder(toy_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is expanded, and no folder `~` beside the benchmark file is looked for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    copied(toy_bundle, tmp_path / "theirs")
    (tmp_path / "work").mkdir()
    assert keys_of(planned(tmp_path / "work", "~/theirs")) == keys_of(planned(tmp_path, toy_bundle))


def test_folder_of_a_run_stops_before_the_run(toy_run: harness.Run, tmp_path: Path) -> None:
    """The line says how a bundle is made of it."""
    with pytest.raises(harness.UserError) as error:
        planned(tmp_path, toy_run.folder)
    assert str(error.value) == (
        f"method 'published': {toy_run.folder}: is the folder of a run; `harness publish {toy_run.folder} --to FOLDER` makes a "
        "bundle of it"
    )


def test_bundle_of_a_newer_format_stops_before_the_run(toy_bundle: Path, tmp_path: Path) -> None:
    """It cannot be read."""
    bundle = copied(toy_bundle, tmp_path / "bundle")
    edit_json(bundle / "digests.json", lambda facts: facts.update(format=2))
    with pytest.raises(harness.UserError, match=r"digests\.json: format is 2; this version of basin-harness reads format 1"):
        planned(tmp_path, bundle)
