"""The parts of `benchmarks/gpu.py`: what each runs, for how long, and what it needs.

A new part is one line in `PARTS`. Commands run in processes of their own; this module imports the standard library alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PERF = ROOT / "benchmarks" / "perf"
TIME_IS_OVER = (75, 130)
"""Exit codes of commands that stopped at their own time limit: `measure_ladder.py` and `harness run`."""

DEVICE_IS_LOST = 70
"""Exit code of `measure_ladder.py` if the device works in another process only. It goes on at once."""

_LADDER_SECONDS = 45.0  # a rung that is compiled takes about a minute; the last one is begun so long before the limit
_RUN_SECONDS = 20.0  # to finish an epoch, save and write the board


@dataclass(frozen=True)
class Call:
    """What the parts of a call share. `dataset` and `images` are those of the runs: its name, and the images of an epoch."""

    out: Path
    scratch: Path
    data: Path | None
    tiny: bool
    dataset: str
    images: int

    @property
    def ladder(self) -> Path:
        """The file of the ladder's results."""
        return self.out / "ladder.jsonl"


Command = Callable[[Call, float], list[str]]
"""Returns the command of a part that has so many seconds."""


@dataclass(frozen=True)
class Part:
    """One part. It is ended after `limit` seconds and is not begun with less than `least` seconds left in the call.

    A part that `continues` goes on in the next call if it was not done. `folder`, in the scratch folder, is what it writes
    rows and events to; `OUT/NAME.tar.gz` is a copy of it. `group` is the ladder's group of rungs that it measures.
    """

    name: str
    command: Command
    limit: float
    least: float = 30.0
    needs_data: bool = False
    continues: bool = False
    folder: str = ""
    group: str = ""


def _doctor(call: Call, seconds: float) -> list[str]:
    return [sys.executable, "-m", "harness", "doctor", "--store", str(call.scratch / "store"), *_data(call)]


def _check(name: str) -> Command:
    def command(call: Call, seconds: float) -> list[str]:
        return [sys.executable, str(PERF / "gpu_checks.py"), name, *_tiny(call)]

    return command


def _tests(call: Call, seconds: float) -> list[str]:
    """Return pytest on the files that have tests of a GPU: others may import packages that the machine does not have."""
    files = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "mark.gpu" in path.read_text(encoding="utf-8"):
            files.append(str(path))
    return [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider", "-o", "timeout=120", *files]


def _ladder(group: str) -> Command:
    def command(call: Call, seconds: float) -> list[str]:
        limit = f"{max(seconds - _LADDER_SECONDS, 1.0):.0f}"
        script = str(PERF / "measure_ladder.py")
        return [sys.executable, script, group, "--to", str(call.ladder), "--limit", limit, *_tiny(call)]

    return command


def _run(name: str, overrides: Callable[[Call], list[str]]) -> Command:
    """Return the command of a run of paper.yaml, cut by overrides to one seed of CIFAR-10 with ResNet20."""

    def command(call: Call, seconds: float) -> list[str]:
        limit = f"{max(seconds - _RUN_SECONDS, 1.0):.0f}s"
        places = ["--out", str(call.scratch / name), "--store", str(call.scratch / "store"), *_data(call)]
        words = [sys.executable, "-m", "harness", "run", str(ROOT / "benchmarks" / "paper.yaml"), *places]
        words += ["--time-limit", limit, "--profile"]
        words += ["--device", "cpu", "--workers", "1"] if call.tiny else ["--device", "cuda"]
        for override in ["seeds=[0]", f"datasets=[{call.dataset}]", *overrides(call)]:
            words += ["--set", override]
        return words

    return command


def _short(call: Call) -> list[str]:
    """Return the overrides of a run of 16 epochs; fewer are not compiled."""
    methods = "methods=[deep, permuted, {distilled: {beta: 0.2, temperature: 3.0}}]"
    if call.tiny:
        return [methods, *_tiny_overrides(call, epochs=2)]
    return [methods, "architectures=[resnet20]", _setting(call, epochs=16, fork_epoch=2)]


def _whole(call: Call) -> list[str]:
    """Return the overrides of the paper's recipe."""
    if call.tiny:
        return ["methods=[deep, {constrained: {fork_epoch: 1}}]", *_tiny_overrides(call, epochs=3)]
    return ["architectures=[resnet20]"]


def _tiny_overrides(call: Call, epochs: int) -> list[str]:
    return [
        "architectures=[{resnet20: {width: 0.25}}]",
        "members=2",
        "recipe.batch_size=8",
        "metrics=[ensemble_accuracy]",
        _setting(call, epochs, fork_epoch=1),
    ]


def _setting(call: Call, epochs: int, fork_epoch: int) -> str:
    """Return the override of the file's settings: one, for the data set of the call."""
    recipe = f"recipe: {{epochs: {epochs}}}, method_options: {{fork_epoch: {fork_epoch}}}"
    return f"settings=[{{dataset: {call.dataset}, architecture: resnet20, {recipe}}}]"


def _tiny(call: Call) -> list[str]:
    return ["--tiny"] if call.tiny else []


def _data(call: Call) -> list[str]:
    return ["--data", str(call.data)] if call.data else []


def _ladder_part(group: str, limit: float) -> Part:
    return Part(f"ladder-{group}", _ladder(group), limit, least=60, continues=True, group=group)


PARTS: tuple[Part, ...] = (
    # Is it right?
    Part("doctor", _doctor, 60, least=15),
    Part("smoke", _check("smoke"), 180),
    Part("replays", _check("replays"), 150),
    Part("tests", _tests, 300, least=60),
    Part("poisoned", _check("poisoned"), 90),
    # How fast is it?
    _ladder_part("resnet20", 270),
    _ladder_part("evaluation", 120),
    _ladder_part("layer-norm", 90),
    _ladder_part("distilled", 240),
    _ladder_part("vit", 240),
    _ladder_part("workers", 120),
    _ladder_part("alignment", 120),
    # A short run, then the paper's.
    Part("run", _run("run", _short), 540, least=90, needs_data=True, continues=True, folder="run"),
    _ladder_part("resnet20-large", 240),
    _ladder_part("vit-large", 240),
    Part("paper", _run("paper", _whole), 24 * 3600, least=90, needs_data=True, continues=True, folder="paper"),
)
"""All parts, in order of importance. The ladder's 64-pixel groups come after the short run."""
