"""The observer `wandb`: what its offline files hold of a run."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import harness
from harness import UserError
from harness_loggers.wandb import WeightsAndBiases
from loggers.logged_runs import DISTILLED, PLAIN, expected_curves, run_apart

pytest.importorskip("wandb")

OFFLINE = {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}


class OfflineRun:
    """One offline run: its facts, its configuration, and its history by step."""

    def __init__(self, file: Path) -> None:
        from wandb.proto.wandb_internal_pb2 import Record

        self.history: list[dict[str, Any]] = []
        self.run: Any = None
        for data in records(file.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                self.run = record.run
            elif record.WhichOneof("record_type") == "history":
                self.history.append(_values(record.history.item))
        self.config = {item.key: json.loads(item.value_json) for item in self.run.config.update}
        self.folder = file.parent


def records(content: bytes) -> Iterator[bytes]:
    """Yield the records of an offline file: a header of 7 bytes, then LevelDB's log format with blocks of 32 KiB."""
    position = 7
    record = b""
    while position < len(content):
        left = 2**15 - position % 2**15
        if left < 7:  # too short for another part of a record
            position += left
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        record += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield record
            record = b""


def _values(items: Any) -> dict[str, Any]:
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def offline_runs(folder: Path) -> list[OfflineRun]:
    """Return the offline runs in the folder of a run, in the order of their beginning."""
    files = sorted(folder.glob("wandb/offline-run-*/*.wandb"))
    return [OfflineRun(file) for file in files]


def test_logged_run(tmp_path: Path) -> None:
    """Each training is a run with its curves, and one more run has both tables. Nothing connects to anywhere."""
    assert run_apart(tmp_path, "wandb", OFFLINE) == []
    finished = harness.open_run(tmp_path / "run")
    found = offline_runs(finished.folder)
    curves = expected_curves(finished)
    assert len(found) == len(curves) + 1
    trainings = {logged.run.run_id: logged for logged in found if logged.run.job_type == "training"}
    names = set()
    for trajectory, epochs in curves.items():
        logged = trainings[trajectory[:32]]
        names.add(logged.run.display_name.removesuffix(f" {trajectory[:8]}"))
        assert logged.run.project == "toys"
        assert logged.config["trajectory"] == trajectory
        assert logged.config["recipe"]["epochs"] == 3
        for line, epoch in zip(logged.history, epochs, strict=True):
            assert line["_step"] == epoch["epoch"]
            for tag in ("loss", "accuracy", "learning_rate"):
                assert line[tag] == pytest.approx(epoch[tag])
    assert names == {*PLAIN, *DISTILLED}
    (board,) = [logged for logged in found if logged.run.job_type == "board"]
    (tables,) = board.history
    values = json.loads((board.folder / "files" / tables["values/path"]).read_text())
    assert values["columns"][:5] == ["dataset", "architecture", "method", "seed", "ensemble_accuracy"]
    rows = finished.rows[finished.rows["metric"] == "ensemble_accuracy"]
    assert [line[4] for line in values["data"]] == list(rows["value"])
    shown = json.loads((board.folder / "files" / tables["board/path"]).read_text())
    assert [line[2] for line in shown["data"]] == ["deep", "distilled_deep"]
    assert all("±" in line[3] for line in shown["data"])


def test_contract(tmp_path: Path) -> None:
    """It follows every kind of run; the parts of a resumed training have one ID, so that they become one run."""
    assert run_apart(tmp_path, "wandb", OFFLINE, "contract") == []
    found = [logged for logged in offline_runs(tmp_path / "run") if logged.run.job_type == "training"]
    steps: dict[str, list[list[int]]] = {}
    for logged in found:
        steps.setdefault(logged.run.run_id, []).append([line["_step"] for line in logged.history])
    assert sorted(steps.values()) == [[[1, 2], [2, 3]], [[1, 2, 3]]]


def test_nobody_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check says so before anything is trained."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    advice = r"log in with `wandb login`, or set WANDB_API_KEY, or WANDB_MODE=offline$"
    with pytest.raises(UserError, match=rf"^nobody is logged in \(.*\); {advice}"):
        WeightsAndBiases().check()
