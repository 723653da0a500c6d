"""The script that measures an engine (`benchmarks/perf/measure_engines.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "perf" / "measure_engines.py"


def test_tasks_that_do_nothing(tmp_path: Path) -> None:
    """The script does them with the engine and the options that it is given, and prints the time per task."""
    words = ["noop", "--engine", "local", "--engine-option", "workers=2", "--tasks", "20", "--folder", str(tmp_path / "new")]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["engine"], found["options"], found["tasks"]) == ("local", {"workers": 2}, 20)
    assert 0 < found["milliseconds"] < 5000
    assert found["first"] > 0
