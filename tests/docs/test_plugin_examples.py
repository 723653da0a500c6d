"""The example plugins on the page: each keeps its contract, and a benchmark of all of them does what the page says."""

from __future__ import annotations

import itertools
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

import harness
from harness import events
from harness.benchmark import load_benchmark
from harness.plan.planner import plan
from harness.registry.catalogue import KINDS, Catalogue, Registration, load_catalogue
from harness.registry.discovery import Source
from harness.store import Store
from harness.testing import (
    check_architecture,
    check_correction,
    check_coupling,
    check_dataset,
    check_derivation,
    check_ensemble_builder,
    check_evaluation_set,
    check_metric,
    check_objective,
    derivation_context,
)

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLUGIN = Source("examples", "docs 0")


def section(page: str, heading: str) -> str:
    """Return the text of a page between a heading of the second level and the next one."""
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section '{heading}'"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of a language in a text; there are some."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found


def executed(block: str) -> dict[str, Any]:
    """Return the names that a block defines, as a module of its own would."""
    module = ModuleType("example")
    exec(compile(block, "docs/plugins.md", "exec"), vars(module))
    return vars(module)


def registrations(block: str) -> list[Registration]:
    """Return what the hooks of a block register, kind by kind."""
    names = executed(block)
    found: list[Registration] = []
    for kind, (hook, _) in KINDS.items():
        if hook in names:
            names[hook](lambda cls, kind=kind: found.append(Registration(kind, cls.name, cls, PLUGIN)))
    assert found, block
    return found


def label(entry: str | dict[str, Any]) -> str:
    """Return the label of an entry of the benchmark: its name, if it has no options."""
    if isinstance(entry, str):
        return entry
    (options,) = entry.values()
    return str(options["label"])


EXAMPLES = section("plugins.md", "An example of each kind")
METRICS = section("metrics.md", "Your own metric")
MODULES = [block for block in blocks(EXAMPLES, "python") if "@hookimpl" in block]
EXAMPLES_REGISTERED = [new for block in MODULES for new in registrations(block)]
REGISTERED = [*EXAMPLES_REGISTERED, *(new for block in blocks(METRICS, "python") for new in registrations(block))]
CATALOGUE = Catalogue([*load_catalogue(), *REGISTERED])
BENCHMARK: dict[str, Any] = yaml.safe_load(blocks(EXAMPLES, "yaml")[0])
METRICS_OF_THE_PAGE = [new.name for new in REGISTERED if new.kind == "metric"]
METRIC_LABELS = [label(entry) for entry in BENCHMARK["metrics"]]
METHOD_LABELS = [label(entry) for entry in BENCHMARK["methods"]]
MEMBERS, EPOCHS, RATE = BENCHMARK["members"], BENCHMARK["recipe"]["epochs"], BENCHMARK["recipe"]["learning_rate"]
STEPS_PER_EPOCH = 4


@dataclass
class Finished:
    """A finished run of the page's benchmark, with its events."""

    run: harness.Run
    events: list[events.Event]

    def states(self, method: str) -> list[harness.StateDict]:
        """Return the weights of a method's members."""
        return [member.state_dict() for member in self.run.members(method=method)]

    def modules(self, method: str) -> list[nn.Module]:
        """Return the networks of a method's members."""
        return [member.module(catalogue=CATALOGUE) for member in self.run.members(method=method)]

    def value(self, method: str, metric: str) -> float:
        """Return a value on the board."""
        rows = self.run.rows
        (value,) = rows[(rows["method"] == method) & (rows["metric"] == metric)]["value"]
        return float(value)

    def epochs_trained(self, method: str) -> dict[str, list[events.EpochEnded]]:
        """Return the epochs that were trained for a method alone, by training task."""
        found: dict[str, list[events.EpochEnded]] = {}
        for event in self.events:
            if isinstance(event, events.EpochEnded) and list(event.methods) == [method]:
                found.setdefault(event.task, []).append(event)
        return found


def finished(folder: Path, changes: Mapping[str, Any] | None = None) -> Finished:
    """Run the page's benchmark, with changes, on the page's engine."""
    seen: list[events.Event] = []
    run = harness.run(
        {**BENCHMARK, **(changes or {})},
        out=folder / "run",
        store=folder / "store",
        data=folder,
        engine="one_by_one",
        device="cpu",
        progress=False,
        observers={"test": seen.append},
        catalogue=CATALOGUE,
    )
    assert run.status == "done", run.failures
    return Finished(run, seen)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """The page's benchmark, finished, with all metrics of the pages."""
    folder = tmp_path_factory.mktemp("examples")
    return finished(folder, {"metrics": [*BENCHMARK["metrics"], *set(METRICS_OF_THE_PAGE) - set(METRIC_LABELS)]})


def example(kind: str, name: str) -> Any:
    """Return a plugin of the page with its default options."""
    return CATALOGUE.create(kind, name)


def normalized(images: torch.Tensor) -> torch.Tensor:
    """Return images as the networks receive them."""
    ((mean,), (deviation,)) = example("dataset", "gratings").normalization
    return (images.float() / 255 - mean) / deviation


def splits() -> tuple[harness.Split, harness.Split]:
    """Return the training and the test split."""
    train, test = example("dataset", "gratings").load(Path())
    return train, test


def averaged(module: nn.Module, states: list[harness.StateDict]) -> nn.Module:
    """Return a network with the mean of weights, and torch's own running statistics of all training images at once."""
    mean = {}
    for name, tensor in states[0].items():
        mean[name] = tensor
        if tensor.is_floating_point():
            mean[name] = torch.stack([state[name] for state in states]).mean(0)
    module.load_state_dict(mean)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain average
    train, _ = splits()
    with torch.no_grad():
        module.train()(normalized(train.images))
    return module.eval()


def test_section_has_an_example_of_each_kind() -> None:
    """Figures and observers have sections of their own, which other tests read."""
    found = {new.kind for new in EXAMPLES_REGISTERED}
    assert found == set(KINDS) - {"figure", "observer"}


def test_every_example_is_in_the_benchmark() -> None:
    """The last block of the section names every plugin of the section but the derivation and the engine."""
    text = blocks(EXAMPLES, "yaml")[0]
    for new in EXAMPLES_REGISTERED:
        assert new.name in text or new.kind in ("derivation", "engine"), new.name


@pytest.mark.parametrize("name", ["cosine_cycles", "swe_average"])
def test_contract_of_an_ensemble_builder(name: str) -> None:
    """Both builders depend on the cell only."""
    recipe = harness.Recipe(epochs=6)
    setting = harness.Setting(example("dataset", "gratings"), example("architecture", "small_convnet"), recipe)
    members = check_ensemble_builder(example("ensemble_builder", name), setting, example("objective", "focal_loss"))
    assert len(members) == {"cosine_cycles": 3, "swe_average": 1}[name]


def test_contract_of_the_architecture() -> None:
    """It holds for images with one channel and with three."""
    check_architecture(example("architecture", "small_convnet"), shape=(1, 8, 8), classes=4)
    check_architecture(example("architecture", "small_convnet"), shape=(3, 16, 12), classes=7)


def test_contract_of_the_data_set(tmp_path: Path) -> None:
    """The declared normalization is that of the images, the classes differ, and so do the splits."""
    dataset = example("dataset", "gratings")
    check_dataset(dataset, tmp_path)
    train, test = dataset.load(tmp_path)
    ((mean,), (deviation,)) = dataset.normalization
    assert float(train.images.float().mean() / 255) == pytest.approx(mean, abs=0.03)
    assert float(train.images.float().std() / 255) == pytest.approx(deviation, abs=0.03)
    patterns = [train.images[train.labels == label].float().mean(0) for label in range(4)]
    for one, other in itertools.combinations(patterns, 2):
        assert float((one - other).abs().mean()) > 20
    assert not torch.equal(dataset.load_split("noisy", tmp_path).images, test.images)


def test_contract_of_the_objective() -> None:
    """With gamma = 2 the loss is the formula of the paper, also with label smoothing's targets."""
    objective = example("objective", "focal_loss")
    check_objective(objective)
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.0]])
    labels = torch.tensor([0, 2])
    true = logits.softmax(1)[torch.arange(2), labels]
    torch.testing.assert_close(objective.loss(logits, labels), (-((1 - true) ** 2) * true.log()).mean())
    targets = 0.9 * F.one_hot(labels, 3) + 0.1 / 3
    smoothed = -(targets * logits.log_softmax(1)).sum(1)
    expected = ((1 - true) ** 2 * smoothed).mean()
    torch.testing.assert_close(objective.loss(logits, labels, label_smoothing=0.1), expected)


@pytest.mark.parametrize("name", METRICS_OF_THE_PAGE)
def test_contract_of_a_metric(name: str) -> None:
    """It holds for several members and for one."""
    check_metric(example("metric", name))
    check_metric(example("metric", name), members=1)


def test_contract_of_the_correction() -> None:
    """It is deterministic, and leaves no hook at a member."""
    check_correction(example("correction", "logit_means"))


def test_contract_of_the_coupling() -> None:
    """It is a function of weights and step; after its step, all networks are their mean."""
    check_coupling(example("coupling", "averaging"))
    step = harness.CouplingStep(100, 0.1, 0.1, 0, torch.ones(4))
    networks = [torch.arange(4.0), torch.ones(4)]
    example("coupling", "averaging").after_step(networks, step)
    assert [network.tolist() for network in networks] == [[0.5, 1.0, 1.5, 2.0]] * 2


def test_contract_of_the_evaluation_set(tmp_path: Path) -> None:
    """Its splits are darker; the option is part of the fingerprint."""
    dusk, gratings = example("evaluation_set", "dusk"), example("dataset", "gratings")
    check_evaluation_set(dusk, gratings, tmp_path)
    _, test = gratings.load(tmp_path)
    assert torch.equal(dusk.load(gratings, "quarter", tmp_path).images, test.images // 4)
    brighter = type(dusk)(type(dusk).Options(offset=9))
    assert brighter.fingerprint(gratings, "half") != dusk.fingerprint(gratings, "half")


def test_contract_of_the_derivation(tmp_path: Path) -> None:
    """The mean keeps the contract, and its statistics are not the mean of the parents'."""
    context = derivation_context(example("architecture", "small_convnet"), example("dataset", "gratings"), tmp_path)
    parents = []
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        parent = {}
        for name, tensor in context.network().state_dict().items():
            parent[name] = tensor
            if tensor.is_floating_point():
                parent[name] = torch.rand(tensor.shape, generator=generator)
        parents.append(parent)
    (mean,) = check_derivation(example("derivation", "mean_of_weights"), parents, context)
    plain = torch.stack([parent["1.running_mean"] for parent in parents]).mean(0)
    assert not torch.allclose(mean["1.running_mean"], plain)


def test_contract_of_the_alignment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own test passes."""
    module = ModuleType("my_plugin")
    for block in MODULES:
        vars(module).update(executed(block))
    monkeypatch.setitem(sys.modules, "my_plugin", module)
    (test,) = [block for block in blocks(EXAMPLES, "python") if "check_alignment" in block]
    executed(test)["test_contract"](tmp_path)


def test_aligned_members_of_the_page(board: Finished) -> None:
    """The first member is that of `deep`; the second one is permuted, and the ensemble is as accurate."""
    first, second = board.states("deep")
    kept, moved = board.states("matched")
    assert all(torch.equal(kept[name], first[name]) for name in first)
    assert moved["3.weight"].sum() == pytest.approx(float(second["3.weight"].sum()), abs=1e-5)
    assert board.value("matched", "ensemble_accuracy") == board.value("deep", "ensemble_accuracy")


def test_board_of_all_examples(board: Finished) -> None:
    """Every method has a value of every metric."""
    rows = board.run.rows
    assert set(rows["status"]) == {"done"}
    assert set(rows["method"]) == set(METHOD_LABELS)
    assert {*METRIC_LABELS, *METRICS_OF_THE_PAGE} <= set(rows["metric"])


def test_cosine_cycles_train_once_per_cycle(board: Finished) -> None:
    """M training tasks, T epochs in all, and in each the rates of a whole cosine from the recipe's peak to 0."""
    trained = board.epochs_trained("cosine_cycles")
    length = EPOCHS // MEMBERS
    assert [len(epochs) for epochs in trained.values()] == [length] * MEMBERS
    rates = []
    for epoch in (1, length):
        middle_of_last_step = epoch - 0.5 / STEPS_PER_EPOCH
        rates.append(RATE / 2 * (1 + math.cos(math.pi * middle_of_last_step / length)))
    for j, member in enumerate(board.run.members(method="cosine_cycles")):
        history = Store(member.store).meta(member.object)["history"]
        assert [record["epoch"] for record in history] == list(range(j * length + 1, (j + 1) * length + 1))
        assert [history[0]["learning_rate"], history[-1]["learning_rate"]] == pytest.approx(rates)


def test_cosine_cycles_that_do_not_fit() -> None:
    """The check names the recipe's epochs and the members."""
    with pytest.raises(ValueError, match=r"^epochs is 4; a multiple of the 3 members, one cycle per member$"):
        example("ensemble_builder", "cosine_cycles").check(harness.Recipe(epochs=4), 3)


@pytest.mark.parametrize("warmup", [0, 0.5])
def test_single_cosine_cycle(tmp_path: Path, warmup: float) -> None:
    """Without warm-up it is the plain run, bit for bit and by its key; with warm-up it is not."""
    recipe = {**BENCHMARK["recipe"], "warmup": warmup}
    single = finished(tmp_path, {"members": 1, "methods": ["deep", "cosine_cycles"], "recipe": recipe})
    (plain,), (cycle,) = single.states("deep"), single.states("cosine_cycles")
    assert all(torch.equal(plain[name], cycle[name]) for name in plain) == (warmup == 0)
    keys = {single.run.members(method=method)[0].key for method in ("deep", "cosine_cycles")}
    assert (len(keys) == 1) == (warmup == 0)


def test_average_trains_nothing_new() -> None:
    """Beside swe it adds no epoch; alone it costs as much as swe, because it needs the same training."""
    cells = {cell.spec.method.label: cell for cell in plan(load_benchmark(BENCHMARK, CATALOGUE)).cells}
    assert cells["swe_average"].epochs_new == 0
    assert cells["swe_average"].epochs_alone == cells["swe"].epochs_alone > 0


def test_average_is_the_mean_of_swe(board: Finished) -> None:
    """Its weights are the mean of the members', its running statistics those of the training images at these weights."""
    (found,) = board.states("swe_average")
    (module,) = board.modules("swe_average")
    expected = averaged(module, board.states("swe")).state_dict()
    for name, tensor in expected.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(found[name], tensor, rtol=1e-4, atol=1e-5)
    assert board.epochs_trained("swe_average") == {}


@pytest.mark.parametrize("method", ["deep", "cosine_cycles"])
def test_loss_between_members(board: Finished, method: str) -> None:
    """It is torch's cross-entropy of the averaged network; with two members there is one pair."""
    module, _ = board.modules(method)
    _, test = splits()
    with torch.no_grad():
        logits = averaged(module, board.states(method))(normalized(test.images))
    expected = float(F.cross_entropy(logits, test.labels))
    assert board.value(method, "loss_between_members") == pytest.approx(expected, rel=1e-4)
    assert board.value(method, "loss_between_members_worst_pair") == board.value(method, "loss_between_members")


def test_loss_between_members_of_a_single_network(board: Finished) -> None:
    """It is the loss of the network itself."""
    (module,) = board.modules("swe_average")
    _, test = splits()
    with torch.no_grad():
        expected = float(F.cross_entropy(module(normalized(test.images)), test.labels))
    assert board.value("swe_average", "loss_between_members") == pytest.approx(expected, rel=1e-4)


def test_generalization_gap(board: Finished) -> None:
    """The example on the page about metrics compares the members' accuracy on both splits."""
    gaps = []
    for module in board.modules("deep"):
        accuracies = []
        for split in splits():
            with torch.no_grad():
                right = module(normalized(split.images)).argmax(1) == split.labels
            accuracies.append(100 * float(right.float().mean()))
        gaps.append(accuracies[0] - accuracies[1])
    assert board.value("deep", "generalization_gap") == pytest.approx(sum(gaps) / len(gaps), abs=1e-4)


def test_fast_geometric_ensemble_of_the_page() -> None:
    """The members of the example are at the middle of each cycle, where the rate is lowest, beyond T too."""
    (block,) = blocks(section("plugins.md", "Learning rate schedules"), "python")

    class Options(harness.Options):
        high: float = 0.05
        low: float = 0.001
        cycle: int = 2

    names = executed(f"from harness import schedules\n{block}")
    names_of_class = {"name": "geometric", "Options": Options, "build": names["build"]}
    builder = type("Geometric", (harness.EnsembleBuilder,), names_of_class)()
    setting = harness.Setting(
        example("dataset", "gratings"), example("architecture", "small_convnet"), harness.Recipe(epochs=8)
    )
    members: list[Any] = check_ensemble_builder(builder, setting, example("objective", "focal_loss"))
    assert [member.epoch for member in members] == [7, 9, 11]
    for member in members:
        run = member.trajectory
        assert run.schedule.at(member.epoch - run.schedule_start) == pytest.approx(0.001)
