"""Progress on a terminal and in a notebook: what is shown, within the width, and what stays on the screen."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.cells import cell_len
from rich.console import Console

from cli.command_line import FILE, python_path
from harness.api.task import Task
from harness.execution.annotator import EventAnnotator
from harness.execution.run_plan import RunPlan
from harness.plan.graph import Graph
from harness.runs.progress_bars import Bars
from harness.telemetry import events

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

NOTEBOOK = """
import sys, types, warnings

class Shell:
    kernel = object()

IPython = types.ModuleType("IPython")
IPython.get_ipython = Shell
sys.modules["IPython"] = IPython

from harness.runs.progress import in_notebook, progress
from harness.telemetry.events import RunPlanned
from harness.execution.run_plan import RunPlan

assert in_notebook()
class Graph:
    tasks = {}

warnings.simplefilter("error")
with progress(Graph()) as show:
    show(RunPlanned(cells=1, tasks=2, epochs=3, epochs_in_all=3))
"""
"""A kernel, as far as this project sees it."""


class Screen:
    """The bars of a run on a console, with a clock that the test sets."""

    def __init__(self, graph: Graph) -> None:
        self.seconds = 0.0
        self.said: list[str] = []
        self.tasks = list(graph.tasks.values())
        self.bars = Bars(RunPlan(graph), self.said.append, lambda: self.seconds)
        self._annotate = EventAnnotator(RunPlan(graph), Path("runs/toys"))
        epochs = sum(task.cost for task in self.tasks)
        self.show(events.RunPlanned(cells=1, tasks=len(self.tasks), epochs=epochs, epochs_in_all=epochs))

    def show(self, event: events.Event) -> None:
        self.bars.show(self._annotate(event))

    def train(self, task: Task, epoch: int) -> None:
        self.show(events.TrainingStarted(task=task.key, kind="train", epoch=0, until=100, threads=1))
        facts = {"loss": 1.25, "accuracy": 50.0, "learning_rate": 0.1, "seconds": 10.0}
        self.show(events.EpochEnded(task=task.key, kind="train", epoch=epoch, until=100, **facts))

    def start(self, kind: str) -> Task:
        """Start the first task of a kind."""
        task = next(task for task in self.tasks if task.kind == kind)
        self.show(events.TaskStarted(task=task.key, kind=kind))
        return task

    def lines(self, width: int) -> list[str]:
        """Return what a console of so many columns shows."""
        console = Console(file=io.StringIO(), width=width, color_system=None)
        with console.capture() as captured:
            console.print(self.bars.lines(width))
        return [line.rstrip() for line in captured.get().splitlines()]


@pytest.fixture
def screen_of(graph_of: Callable[..., Graph]) -> Callable[..., Screen]:
    """Return a function that makes the screen of a run of toys."""
    recipe: dict[str, Any] = {"epochs": 100, "batch_size": 16, "learning_rate": 0.1}
    recipe["augmentation"] = {"crop_padding": 0, "horizontal_flip": False}
    return lambda **changes: Screen(graph_of(methods=["deep"], recipe=recipe, **changes))


def run_in_terminal(folder: Path, *words: str) -> str:
    """Run the command line on a terminal, and return what it wrote there."""
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness", *words]
    process = subprocess.Popen(command, cwd=folder, stdout=follower, stderr=follower, env=environment)
    os.close(follower)
    written = b""
    while True:
        try:
            read = os.read(leader, 65536)
        except OSError:  # Linux reports the end so
            break
        if not read:
            break
        written += read
    os.close(leader)
    assert process.wait() == 0, written
    return written.decode()


def test_sixty_columns(screen_of: Callable[..., Screen]) -> None:
    """Nothing is wider; the member, the epochs and the accuracy are in full."""
    screen = screen_of(members=2)
    screen.seconds += 30
    screen.train(screen.tasks[0], 30)
    whole, training = screen.lines(60)
    assert max(cell_len(whole), cell_len(training)) <= 60
    assert whole.startswith("0 of 6 tasks ")
    assert whole.endswith("30/200 epochs 02:50 left")
    assert training.startswith("training seed 0 m")
    assert training.split()[-3:] == ["30/100", "50.0", "%"]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 100, 200])
def test_width(screen_of: Callable[..., Screen], width: int) -> None:
    """No line is wider than the console, whatever runs."""
    screen = screen_of(members=3)
    for task in screen.tasks[:3]:
        screen.train(task, 99)
    for kind in ("predict", "measure"):
        screen.start(kind)
    assert len(screen.lines(width)) == 6
    assert max(map(cell_len, screen.lines(width))) <= width


def test_wide_console(screen_of: Callable[..., Screen]) -> None:
    """A training's line says what is trained, and its loss."""
    screen = screen_of(members=2)
    screen.train(screen.tasks[0], 30)
    line = screen.lines(140)[1]
    assert line.startswith("training seed 0 member 0, perceptron on blobs, cross-entropy ")
    assert line.endswith(" loss 1.250  accuracy 50.0 %")


def test_measurement(screen_of: Callable[..., Screen]) -> None:
    """Its line says what is measured, of which method, and for how long."""
    screen = screen_of(members=2)
    screen.start("measure")
    screen.seconds += 75
    line = screen.lines(100)[1]
    assert line.startswith("measuring ensemble_accuracy of deep, seed 0, perceptron on blobs ")
    assert line.endswith(" 1:15")


def test_end_of_a_task(screen_of: Callable[..., Screen]) -> None:
    """Its line is gone, and the run's line counts it."""
    screen = screen_of(members=2)
    task = screen.start("measure")
    screen.show(events.TaskEnded(task=task.key, kind="measure", status="done"))
    assert len(screen.lines(80)) == 1
    assert screen.lines(80)[0].startswith("1 of 6 tasks ")


def test_more_tasks_than_lines(screen_of: Callable[..., Screen]) -> None:
    """The first ones are shown, and the others counted."""
    screen = screen_of(members=20)
    for task in screen.tasks[:20]:
        screen.train(task, 1)
    lines = screen.lines(80)
    assert len(lines) == 1 + 12 + 1
    assert lines[-1] == "and 8 more"


def test_nothing_is_drawn_before_a_task_begins(screen_of: Callable[..., Screen]) -> None:
    """What is said before stands alone."""
    screen = screen_of(members=2)
    screen.show(events.EngineOpened(engine="local", workers=1, device="cpu", threads=1, message="one"))
    assert not screen.bars.task_in_progress
    assert screen.said == ["1 cells: 6 tasks to do, 200 epochs to train", "local engine: one"]
    screen.start("measure")
    assert screen.bars.task_in_progress


def test_equal_failures(screen_of: Callable[..., Screen]) -> None:
    """They give one line above the bars, and their number at the end."""
    screen = screen_of(members=3)
    for task in screen.tasks[:3]:
        screen.train(task, 1)
        screen.show(events.TaskEnded(task=task.key, kind="train", status="failed", message="it diverged"))
    screen.show(events.RunEnded(status="failed"))
    assert screen.said[1:] == [
        "failed: perceptron on blobs, seed 0 member 0, cross-entropy: it diverged",
        "failed 2 more times for the same reason: it diverged",
    ]


def test_run_in_a_terminal(tmp_path: Path) -> None:
    """No frame precedes the lines about plan and engine, and every frame is erased before the board, which fits."""
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(FILE))
    written = run_in_terminal(tmp_path, "run", "small.yaml", "--workers", "1")
    before, _, after = written.partition("local engine:")
    assert ESCAPE.sub("", before).splitlines() == ["2 cells: 11 tasks to do, 5 epochs to train"]
    assert re.search(r"(checking|training|predicting|measuring) ", after)  # which ones are drawn depends on the machine's speed
    frames, board = after.split("###", 1)
    assert frames.rstrip().endswith("\x1b[2K")  # the last thing done to the frame is to erase it
    assert "━" not in board
    assert max(len(line) for line in ESCAPE.sub("", board).splitlines() if line.startswith("|")) <= 60


def test_notebook_without_widgets(tmp_path: Path) -> None:
    """Plain lines are shown, without a warning about what is not installed."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, package=None: None if name == 'ipywidgets' else find(name, package)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": python_path(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == "1 cells: 2 tasks to do, 3 epochs to train\n"
    assert done.stdout == ""


def test_notebook_with_widgets(tmp_path: Path) -> None:
    """The bars are drawn in an output widget, and no warning is shown."""
    pytest.importorskip("ipywidgets")
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    code = f"import harness\nrun = harness.run({FILE!r}, out='out', store='store', workers=1)"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = notebook.cells[0].outputs
    text = "".join(output.get("text", "") for output in outputs)
    assert text.startswith("2 cells: 11 tasks to do, 5 epochs to train\nlocal engine: ")
    assert "arning" not in text
    widgets = [output for output in outputs if "application/vnd.jupyter.widget-view+json" in output.get("data", {})]
    assert len(widgets) == 1


def test_derivation_that_trains(graph_of: Callable[..., Graph]) -> None:
    """Its line says which epoch it has reached; its cost counts once it has ended."""
    from descents import BENCHMARK, CATALOGUE

    screen = Screen(graph_of(CATALOGUE, **BENCHMARK))
    task = screen.start("derive")
    assert screen.lines(100)[1].endswith(" 0:00")
    screen.seconds += 65
    screen.show(events.DerivationEpochEnded(task=task.key, kind="derive", epoch=2, seconds=65.0))
    whole, derivation = screen.lines(100)
    assert derivation.startswith("deriving descent of descended")
    assert derivation.endswith("epoch 2  1:05")
    assert "0/10 epochs" in whole
    screen.show(events.TaskEnded(task=task.key, kind="derive", status="done"))
    assert "2/10 epochs" in screen.lines(100)[0]
