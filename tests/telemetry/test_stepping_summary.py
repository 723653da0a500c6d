"""The summary of how the steps of a run's trainings were taken."""

from __future__ import annotations

from typing import Any

from harness.telemetry.events import RunEnded, TrainingStepped
from harness.telemetry.stepping_summary import SteppingSummary

GPU = "NVIDIA H100 80GB HBM3"
DRAWS = "not captured: NotCapturable: the network draws from torch's global generator"


def summary(*ways: tuple[int, dict[str, Any]]) -> SteppingSummary:
    """Return a summary of trainings: how many, and what differs from eager steps of a single one on the GPU."""
    found = SteppingSummary()
    number = 0
    for count, changes in ways:
        for _ in range(count):
            number += 1
            facts = {"manner": "eager", "siblings": 1, "precision": "bf16", "tf32": False, "fallback": "", "device": GPU}
            found(TrainingStepped(task=str(number), kind="train", **{**facts, **changes}))
    return found


def test_run_on_the_cpu() -> None:
    """There is nothing to say; run.json has the counts."""
    found = summary((3, {"device": "cpu", "precision": "fp32"}))
    assert found.sentence() == ""
    way = {
        "manner": "eager",
        "siblings": 1,
        "precision": "fp32",
        "tf32": False,
        "fallback": "",
        "device": "cpu",
        "trainings": 3,
    }
    assert found.to_json() == [way]


def test_run_without_trainings() -> None:
    """There is nothing to say."""
    found = summary()
    found(RunEnded(status="done"))
    assert found.sentence() == ""
    assert found.to_json() == []


def test_captured_and_eager_trainings() -> None:
    """The line has the counts by manner, how many were trained at once, and the reason."""
    found = summary((10, {"manner": "captured", "siblings": 5}), (2, {"fallback": DRAWS}))
    assert found.sentence() == f"steps: 10 trainings captured (up to 5 at once), 2 eager: {DRAWS}"
    assert [way["trainings"] for way in found.to_json()] == [10, 2]


def test_single_training() -> None:
    """The noun is in the singular."""
    assert summary((1, {"manner": "compiled"})).sentence() == "steps: 1 training compiled"


def test_several_reasons() -> None:
    """The line has the most frequent one, and says where the others are."""
    found = summary((1, {"fallback": "other"}), (2, {"fallback": DRAWS}), (1, {"fallback": "third"}))
    assert found.sentence() == f"steps: 4 trainings eager: {DRAWS} (and 2 more reasons: run.json)"


def test_training_that_is_resumed() -> None:
    """It counts once, as its steps were taken last."""
    found = summary((1, {"manner": "compiled"}))
    [way] = found.to_json()
    del way["trainings"]
    found(TrainingStepped(task="1", kind="train", **{**way, "manner": "captured"}))
    assert found.sentence() == "steps: 1 training captured"
