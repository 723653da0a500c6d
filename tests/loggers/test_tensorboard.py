"""The observer `tensorboard`: what TensorBoard reads of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import harness
from harness.testing import check_observer
from harness_loggers.tensorboard import TensorBoard, folder_name
from loggers.logged_runs import DISTILLED, PLAIN, expected_curves, run

accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read(folder: Path) -> Any:
    """Return what TensorBoard reads of one of its runs."""
    found = accumulators.EventAccumulator(str(folder))
    found.Reload()
    return found


def runs_in(folder: Path) -> dict[str, Path]:
    """Return the folders of TensorBoard's runs by their relative paths."""
    files = sorted(folder.rglob("events.out.tfevents.*"))
    return {str(file.parent.relative_to(folder)): file.parent for file in files}


def test_logged_run(tmp_path: Path) -> None:
    """Each training has the curves that the events have, each cell its values, and the board is there as text."""
    finished = run(tmp_path, ["tensorboard"])
    found = runs_in(finished.folder / "tensorboard")
    curves = expected_curves(finished)
    assert len(curves) == 8
    names = set()
    for trajectory, epochs in curves.items():
        (name,) = [name for name in found if name.endswith(trajectory[:8])]
        names.add(name.removesuffix(f" {trajectory[:8]}"))
        scalars = read(found.pop(name))
        assert set(scalars.Tags()["scalars"]) == {"loss", "accuracy", "learning_rate"}
        for tag in ("loss", "accuracy", "learning_rate"):
            drawn = [(scalar.step, pytest.approx(scalar.value, rel=1e-6)) for scalar in scalars.Scalars(tag)]
            assert [(epoch["epoch"], epoch[tag]) for epoch in epochs] == drawn
    assert names == {*PLAIN, *DISTILLED}
    board = read(found.pop("board"))
    (text,) = board.Tensors("board/text_summary")
    assert text.tensor_proto.string_val[0].decode() == (finished.folder / "leaderboard.md").read_text()
    rows = finished.rows[finished.rows["main"]]
    assert set(found) == {f"blobs/perceptron/{method}/seed {seed}" for method in ("deep", "distilled_deep") for seed in (0, 1)}
    for name, folder in found.items():
        values = read(folder)
        _, _, method, seed = name.split("/")
        cell = rows[(rows["method"] == method) & (rows["seed"] == int(seed[-1]))]
        measured = {metric: pytest.approx(value, rel=1e-6) for metric, value in zip(cell["metric"], cell["value"])}
        assert {tag: values.Scalars(tag)[0].value for tag in values.Tags()["scalars"]} == measured


def test_run_again(tmp_path: Path) -> None:
    """A run with nothing left to do changes no curve, and shows values and board once."""
    first = run(tmp_path, ["tensorboard"])
    found = runs_in(first.folder / "tensorboard")
    again = run(tmp_path, ["tensorboard"])
    assert set(runs_in(again.folder / "tensorboard")) == set(found)
    for folder in found.values():
        accumulator = read(folder)
        for tag in accumulator.Tags()["scalars"]:
            steps = [scalar.step for scalar in accumulator.Scalars(tag)]
            assert steps in ([0], [1, 2, 3])
    assert len(read(found["board"]).Tensors("board/text_summary")) == 1


def test_contract(tmp_path: Path) -> None:
    """It follows every kind of run; a resumed training continues its curve, and shows a repeated epoch once."""
    check_observer(TensorBoard(), tmp_path)
    found = runs_in(tmp_path / "run" / "tensorboard")
    trainings = [folder for name, folder in found.items() if "member" in name]
    assert len(trainings) == 2
    for folder in trainings:
        accumulator = read(folder)
        assert [scalar.step for scalar in accumulator.Scalars("loss")] == [1, 2, 3]
        assert [scalar.value for scalar in accumulator.Scalars("accuracy")] == [30.0, 60.0, 90.0]


@pytest.mark.parametrize(
    "label",
    ["..", ".", "a/b", "a\\b", "c:", "x" * 100, "名" * 100, "ends.", "<b>", "a*?", "../../up", "nul "],
)
def test_folder_name_of_any_label(tmp_path: Path, label: str) -> None:
    """It is one folder below another, on any system."""
    name = folder_name(label)
    assert Path(name).name == name
    assert (tmp_path / name).resolve().parent == tmp_path.resolve()
    assert not set(name) & set('\\/:*?"<>|')
    assert not name.endswith((".", " "))
    (tmp_path / name).mkdir()


def test_folder_names_of_different_labels() -> None:
    """Labels that differ have folders that differ, and plain labels are kept."""
    assert len({folder_name(label) for label in ("a/b", "a_b", "a\\b", "a:b")}) == 4
    assert folder_name("swe(fork_epoch=3,beta=0.5)") == "swe(fork_epoch=3,beta=0.5)"


@pytest.mark.slow
def test_trainings_of_several_workers(tmp_path: Path) -> None:
    """The epochs of worker processes are logged; the parts of a training that forks cut are one curve."""
    finished = harness.run(
        {
            "name": "small",
            "seeds": [0],
            "members": 2,
            "datasets": ["digits"],
            "architectures": [{"vit": {"patch": 4, "width": 8, "mlp": 8, "depth": 1, "heads": 2, "dropout": 0.0}}],
            "methods": [{"constrained": {"fork_epoch": 1}}, "deep"],
            "metrics": ["ensemble_accuracy"],
            "recipe": {"epochs": 3, "batch_size": 64, "optimizer": "adam", "learning_rate": 0.01, "precision": "fp32"},
            "observe": ["tensorboard"],
        },
        out=tmp_path / "run",
        store=tmp_path / "store",
        data=tmp_path,
        workers=2,
        device="cpu",
        progress=False,
    )
    assert finished.status == "done"
    found = runs_in(finished.folder / "tensorboard")
    steps = {}
    for name, folder in found.items():
        if "member" in name:
            steps[name.rpartition(" ")[0]] = [scalar.step for scalar in read(folder).Scalars("loss")]
    assert steps == {
        "digits/vit/constrained/seed 0/member 0": [1, 2, 3],  # also deep's, which comes later in the file
        "digits/vit/deep/seed 0/member 1": [1, 2, 3],
        "digits/vit/constrained/seed 0/member 1": [2, 3],
    }
