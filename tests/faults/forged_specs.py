"""Task specs of a valid form, whose plugins do not exist."""

from __future__ import annotations

from typing import Any

from harness.api.task import key_of

KEY = key_of("one")
SETTING = {"kind": "setting", "format": 2, "dataset": {}, "architecture": {}, "recipe": {}}
LOCATION = {"object": KEY, "part": "weights"}
TRAJECTORY = {
    "kind": "trajectory",
    "format": 2,
    "setting": KEY,
    "objective": {},
    "teacher": None,
    "order": ["order", 0, 0],
    "init": ["init", 0, 0],
    "start": None,
    "start_epoch": 0,
    "schedule": None,
    "schedule_start": 0,
    "fresh_optimizer": False,
}
START = {"epoch": 0, "object": None, "part": None, "own": False}
SPECS: dict[str, dict[str, Any]] = {
    "check": {"kind": "check", "format": 2, "setting": SETTING, "objective": {}, "teacher": None},
    "train": {
        "kind": "train",
        "setting": SETTING,
        "trajectory": TRAJECTORY,
        "trajectory_key": KEY,
        "epoch": 1,
        "from": START,
        "teacher": None,
    },
    "derive": {
        "kind": "derive",
        "format": 2,
        "setting": SETTING,
        "derivation": {},
        "parents": [KEY],
        "stream": ["x", 0, ""],
        "parent_locations": [LOCATION],
    },
    "predict": {"kind": "predict", "setting": SETTING, "weights": KEY, "location": LOCATION, "identity": {}},
    "measure": {
        "kind": "measure",
        "setting": SETTING,
        "metric": {},
        "seed": 0,
        "members": [LOCATION],
        "predictions": [KEY],
        "identity": {},
    },
}
"""A spec of each kind of task."""
