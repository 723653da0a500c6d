"""The optimization ladder for a GPU, rehearsed on the CPU with tiny networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import measure_ladder
import pytest
import torch
from json_lines import append_line, read_lines
from ladder import Network, Work, loader, resnet20, vit
from ladder_rungs import EAGER, GROUPS, TINY, Rung, rungs_of
from ladder_teacher import OpaqueNetwork
from ladder_timing import Timing, measure
from ladder_workers import measure_together
from torch import nn

IN_ONE_PROCESS = sorted(set(GROUPS) - {"workers"})
SMALL = {"resnet20": resnet20(4, 16, batch=4), "vit": vit(16, batch=4, width=16, mlp=32, depth=1, heads=2)}
TIMING = Timing(blocks=3, calls=2, warm_up=1)


def parameter_count(module: nn.Module) -> int:
    """Return the number of a module's trainable numbers."""
    return sum(parameter.numel() for parameter in module.parameters())


def results(path: Path, group: str) -> dict[str, str]:
    """Return the status of each rung of a group that has ended; fail if one has two results."""
    found: dict[str, str] = {}
    for line in read_lines(path):
        if line["group"] == group and line["status"] != "began":
            assert line["rung"] not in found
            found[line["rung"]] = line["status"]
    return found


@pytest.fixture
def failing_group(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a group of three rungs; the second one runs out of memory."""

    def run_out() -> Work:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB\nmore")

    def rungs(sizes: object) -> list[Rung]:
        makes: dict[str, Callable[[], Work]] = {EAGER: work, "full": run_out, "last": work}
        return [Rung(name, partial(measure, make, TIMING, "cpu"), EAGER) for name, make in makes.items()]

    monkeypatch.setitem(GROUPS, "failing", rungs)
    return "failing"


def work() -> Work:
    """Return work of 128 images per call."""
    return Work(lambda: torch.ones(64, 64).sum(), 128, 1e6)


@pytest.mark.parametrize("network", SMALL.values(), ids=SMALL)
def test_both_sides_are_alike(network: Network) -> None:
    """The harness's and the plain network have equally many parameters, the same dropout, and equal batches."""
    ours, plain = network.ours(), network.plain()
    assert parameter_count(ours) == parameter_count(plain)
    probabilities = []
    for module in (ours, plain):
        probabilities.append({part.p for part in module.modules() if isinstance(part, nn.Dropout)})
    assert probabilities[0] == probabilities[1]
    images, labels = next(iter(loader(network, 0)))
    assert images.shape == (4, 3, 16, 16)
    assert labels.shape == (4,)


def test_vit_has_the_dropout_of_the_paper() -> None:
    """Every dropout of the ViT has probability 0.2, that of the attention weights included."""
    probabilities = [part.p for part in SMALL["vit"].ours().modules() if isinstance(part, nn.Dropout)]
    assert len(probabilities) > 2
    assert set(probabilities) == {0.2}


def test_operations_are_counted() -> None:
    """ResNet20×4 takes 4.08 GFLOP per training image of 32×32 pixels, the paper's ViT 1.31 GFLOP."""
    assert resnet20(64).operations() == pytest.approx(4.08e9, rel=0.01)
    assert vit().operations() == pytest.approx(1.31e9, rel=0.05)


def test_teacher_that_is_not_compiled() -> None:
    """A compiler takes the forward pass as one operation; the logits are those of the network in bf16 autocast."""
    module = SMALL["resnet20"].ours().eval()
    opaque = OpaqueNetwork(module, 10)
    images = torch.randn(4, 3, 16, 16)
    graphs: list[torch.fx.GraphModule] = []

    def note(graph: torch.fx.GraphModule, inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = module(images)
        found = torch.compile(opaque, backend=note, fullgraph=True)(images)
    assert torch.equal(found, expected)
    (graph,) = graphs
    operations = [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]
    assert operations == ["basin_ladder.logits.default"]


@pytest.mark.parametrize("group", IN_ONE_PROCESS)
def test_every_rung_is_measured(group: str, tmp_path: Path) -> None:
    """Every rung of a group gets one line with positive figures, the card and the software."""
    path = tmp_path / "ladder.jsonl"
    assert measure_ladder.main([group, "--to", str(path), "--tiny"]) == 0
    names = [rung.name for rung in rungs_of(group, TINY)]
    assert len(set(names)) == len(names)
    assert results(path, group) == dict.fromkeys(names, "measured")
    for line in read_lines(path):
        if line["status"] == "measured":
            assert line["quartiles"][0] <= line["images_per_second"] <= line["quartiles"][1]
            assert line["setup_seconds"] > 0
            assert line["machine"]["device"] == "cpu"
            assert line["machine"]["torch"] == torch.__version__
            assert set(line["machine"]["tf32"]) == {"products", "convolutions"}


def test_rung_that_fails(failing_group: str, tmp_path: Path) -> None:
    """It is a line with its reason, and the others are measured."""
    path = tmp_path / "ladder.jsonl"
    assert measure_ladder.main([failing_group, "--to", str(path), "--tiny"]) == 0
    assert results(path, failing_group) == {EAGER: "measured", "full": "failed", "last": "measured"}
    (failed,) = [line for line in read_lines(path) if line["status"] == "failed"]
    assert failed["reason"] == "OutOfMemoryError: CUDA out of memory. Tried to allocate 20 GiB"


def test_second_call(failing_group: str, tmp_path: Path) -> None:
    """Rungs that have a line, failed ones included, are not measured again."""
    path = tmp_path / "ladder.jsonl"
    measure_ladder.main([failing_group, "--to", str(path), "--tiny"])
    before = path.read_text()
    assert measure_ladder.main([failing_group, "--to", str(path), "--tiny"]) == 0
    assert path.read_text() == before


def test_group_that_is_measured_again(failing_group: str, tmp_path: Path) -> None:
    """Lines before the request are void; the lines of other groups stay."""
    path = tmp_path / "ladder.jsonl"
    for line in ({"group": "other", "rung": EAGER, "status": "began"}, {"group": failing_group, "status": "again"}):
        measure_ladder.main([failing_group, "--to", str(path), "--tiny"])
        append_line(path, line)
    measure_ladder.main([failing_group, "--to", str(path), "--tiny"])
    statuses = [line["status"] for line in read_lines(path) if line.get("rung") == EAGER and line["group"] == failing_group]
    assert statuses == ["began", "measured", "began", "measured"]


def test_process_that_was_ended(failing_group: str, tmp_path: Path) -> None:
    """A rung during which the process was ended is measured once more; after the second time it is left out."""
    path = tmp_path / "ladder.jsonl"
    for rung, times in ((EAGER, 1), ("last", 2)):
        for _ in range(times):
            append_line(path, {"group": failing_group, "rung": rung, "status": "began"})
    assert measure_ladder.main([failing_group, "--to", str(path), "--tiny"]) == 0
    assert results(path, failing_group) == {EAGER: "measured", "full": "failed", "last": "failed"}
    assert read_lines(path)[-1]["reason"] == "its process was ended 2 times"


def test_limit(failing_group: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No rung is begun after the limit; the exit code says that the group goes on in the next call."""
    path = tmp_path / "ladder.jsonl"
    arguments = [failing_group, "--to", str(path), "--tiny", "--limit", "0"]
    assert measure_ladder.main(arguments) == measure_ladder.TIME_IS_OVER
    assert results(path, failing_group) == {}
    assert "the time is over; the same command continues" in capsys.readouterr().out


def test_line_that_was_cut_off(tmp_path: Path) -> None:
    """It is left out, and the next line begins on a line of its own."""
    path = tmp_path / "lines.jsonl"
    path.write_text('{"a": 1}\n{"a": ')
    assert read_lines(path) == [{"a": 1}]
    append_line(path, {"a": 2})
    assert read_lines(path) == [{"a": 1}, {"a": 2}]


def test_block_timing() -> None:
    """Work is called once per warm-up and once per call of each block; rates follow from the median of the blocks."""
    calls: list[int] = []
    found = measure(lambda: Work(lambda: calls.append(1), 10, 30.0), TIMING, "cpu")
    assert len(calls) == TIMING.warm_up + TIMING.blocks * TIMING.calls
    assert found.images_per_second == pytest.approx(10 / (found.milliseconds / 1000))
    assert found.operations_per_second == pytest.approx(3 * found.images_per_second)


@pytest.mark.slow
def test_two_processes() -> None:
    """Both train at the same time, and their images are added; what a process raises is raised here."""
    found = measure_together(work, 2, TIMING, "cpu")
    assert found.images_per_second == pytest.approx(2 * 128 / (found.milliseconds / 1000))
    with pytest.raises(RuntimeError, match="TypeError: "):
        measure_together(Timing, 2, TIMING, "cpu")
