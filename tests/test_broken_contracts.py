"""Plugins that break the contract of their kind, as a run would find them: the contract kit names what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import harness
import toys
from harness import MetricValue, Recipe, Setting, Split, StateDict
from harness.testing import (
    check_coupling,
    check_dataset,
    check_derivation,
    check_ensemble_builder,
    check_evaluation_set,
    check_metric,
    derivation_context,
    evaluated_ensemble,
)
from harness_basin.cross_entropy import CrossEntropy


def metric_of(*values: Any) -> harness.Metric:
    """Return a metric that yields values."""

    class Fixed(harness.Metric):
        name = "fixed"

        def measure(self, ensemble: harness.EvaluatedEnsemble) -> Iterable[MetricValue]:
            return list(values)

    return Fixed()


@pytest.mark.parametrize(
    "values",
    [
        [MetricValue("fixed", 1.0, better="up")],  # type: ignore[arg-type]
        [MetricValue("fixed", 1.0, "percent")],  # type: ignore[arg-type]
        [MetricValue("fixed", "1.0")],  # type: ignore[arg-type]
        [MetricValue("fixed", 1.0, unit=3)],  # type: ignore[arg-type]
        [MetricValue("other", 1.0)],
        [MetricValue("fixed", 1.0), MetricValue("fixed", 2.0)],
        [1.0],
        [],
    ],
    ids=["better", "unit as error", "text", "unit", "name", "twice", "number", "nothing"],
)
def test_metric_whose_values_are_no_rows(values: list[Any]) -> None:
    """A wrong direction, a unit in place of the standard error, texts for numbers: what a run refuses, the kit does."""
    with pytest.raises(AssertionError, match=r"^fixed: measure gave "):
        check_metric(metric_of(*values))


class Tie(harness.Coupling):
    """A coupling of the function that it is given."""

    name = "tie"

    def __init__(self, change: Callable[[Sequence[torch.Tensor], harness.CouplingStep], Any]) -> None:
        super().__init__()
        self.after_step = change  # type: ignore[method-assign]


def stop_early(members: Sequence[torch.Tensor], step: harness.CouplingStep) -> None:
    """Read a value."""
    if float(members[0][0]) > 0:
        members[0].zero_()


def move_some(members: Sequence[torch.Tensor], step: harness.CouplingStep) -> None:
    """Make an index whose size depends on values."""
    members[0][members[1].nonzero().squeeze(1)] = 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda members, step: members[0].add_(torch.rand(80) * step.matrices), "the same steps give other weights"),
        (lambda members, step: members[1].div_(0), "the weights of member 1 are not finite"),
        (lambda members, step: members[0].add_(1), "it changes the gaps between tensors, which must stay 0"),
        (stop_early, "it reads a value of a tensor"),
        (move_some, "it reads a value of a tensor"),
    ],
    ids=["generator", "infinite", "gaps", "value", "size"],
)
def test_coupling_that_would_fail_on_a_gpu_or_change_results(change: Callable[..., Any], message: str) -> None:
    """Draws of the global generator, infinite weights, weights in gaps, and values read back are found."""
    with pytest.raises(AssertionError, match=f"^tie: {message}"):
        check_coupling(Tie(change))


class Mixed(harness.Coupling):
    """A coupling that always has one mixture, and adds to the gradients."""

    name, mixes = "mixed", True

    def __init__(self, *shares: float, penalty: float = 0.0) -> None:
        super().__init__()
        self.shares, self.penalty = shares, penalty

    def mixture(self, members: int, step: harness.CouplingStep) -> Sequence[float]:
        return self.shares

    def add_penalty(self, gradients: torch.Tensor, members: torch.Tensor, step: harness.CouplingStep) -> None:
        gradients.add_(self.penalty)


@pytest.mark.parametrize(
    ("coupling", "message"),
    [
        (Mixed(0.5, 0.5), "mixture gave 2 numbers for 3 members"),
        (Mixed(0.5, -0.5, 1.0), "mixture gave -0.5; numbers of at least 0 are expected"),
        (Mixed(0.5, 0.5, 0.5), "mixture gave numbers with sum 1.5; 1 is expected"),
        (Mixed(1.0, 0.0, 0.0, penalty=1.0), "its penalty changes the gaps between tensors, which must stay 0"),
        (Mixed(1.0, 0.0, 0.0, penalty=float("nan")), "the gradient of its penalty is not finite"),
    ],
    ids=["number", "sign", "sum", "gaps", "infinite"],
)
def test_coupling_whose_mixtures_are_none(coupling: harness.Coupling, message: str) -> None:
    """Shares that are not those of a mixture, and penalties that change what is no weight, are found."""
    with pytest.raises(AssertionError, match=f"^mixed: {message}"):
        check_coupling(coupling)


class Lying(Tie):
    """A coupling that says that it changes nothing."""

    def simplified(self, members: int) -> None:
        return None

    def epoch_cost(self, members: int) -> float:
        return 1.0 if members == 3 else 0.0


def test_coupling_that_says_what_it_does_not() -> None:
    """A coupling that simplifies to nothing and changes weights, and one that costs nothing, are found."""
    with pytest.raises(AssertionError, match=r"^tie: it simplifies to nothing, but changes weights"):
        check_coupling(Lying(lambda members, step: members[0].mul_(2)))
    with pytest.raises(AssertionError, match=r"^tie: epoch_cost is 0.0; a number above 0 is expected"):
        check_coupling(Lying(lambda members, step: None), members=2)


def test_metric_that_is_fine() -> None:
    """NumPy's numbers are numbers."""
    assert len(check_metric(metric_of(MetricValue("fixed", np.float32(1.0), np.float64(0.1), "percent", "higher")))) == 1


@pytest.mark.parametrize(
    ("attribute", "value", "problem"),
    [
        ("better", "lower", r"measure gave a value with better='higher'; its class declares better='lower'$"),
        ("better", "", r"measure gave a value with better='higher'; its class declares better=''$"),
        ("title", "t" * 41, r"title 'ttt.*' has 41 characters; at most 40"),
        ("symbol", "s" * 13, r"symbol 'sss.*' has 13 characters; at most 12"),
        ("title", "two\nlines", r"title 'two\\nlines' has characters that cannot be printed"),
        ("symbol", 3, r"symbol is 3; a text is expected"),
    ],
)
def test_metric_whose_declarations_are_wrong(attribute: str, value: Any, problem: str) -> None:
    """Another direction than that of the values, and texts that tables cannot show, are refused."""
    metric = metric_of(MetricValue("fixed", 1.0, better="higher"))
    setattr(type(metric), attribute, value)
    with pytest.raises(AssertionError, match=rf"^fixed: {problem}"):
        check_metric(metric)


def test_metric_whose_examples_have_another_mean() -> None:
    """The message has both means."""
    examples = np.zeros(len(evaluated_ensemble(3).labels))
    with pytest.raises(AssertionError, match=r"^fixed: measure gave examples of 'fixed' with mean 0; their mean must be the "):
        check_metric(metric_of(MetricValue("fixed", 1.0, examples=examples)))


Outcome = tuple[Sequence[StateDict], Mapping[str, Any]]


def derived(derive: Callable[[Sequence[StateDict]], Outcome], tmp_path: Path) -> None:
    """Check a derivation of perceptrons."""

    class Fixed(harness.Derivation):
        name = "fixed"

        def derive(self, parents: Sequence[StateDict], context: harness.DerivationContext) -> Outcome:
            return derive(parents)

    context = derivation_context(toys.Perceptron(), toys.Blobs(), tmp_path)
    parents = [context.network().state_dict() for _ in range(2)]
    check_derivation(Fixed(), parents, context)


def copies(parent: StateDict) -> StateDict:
    return {name: tensor.clone() for name, tensor in parent.items()}


def in_double(parent: StateDict) -> StateDict:
    return {name: tensor.double() for name, tensor in parent.items()}


@pytest.mark.parametrize(
    ("derive", "message"),
    [
        (lambda parents: ([parents[0]], {}), "is a parent's own tensor; return copies"),
        (lambda parents: ([dict(parents[1])], {}), "is a parent's own tensor; return copies"),
        (lambda parents: ([in_double(parents[0])], {}), "as torch.float64; its parents have torch.float32"),
        (lambda parents: ([copies(parents[0]), copies(parents[1])], {}), "2 states; it declares 1"),
        (lambda parents: ([{}], {}), "no tensor '1.weight' of shape|no tensor"),
        (lambda parents: ([copies(parents[0])], {"parents": parents}), "its facts are no JSON"),
    ],
    ids=["parent", "parent's tensors", "float64", "too many", "empty", "facts"],
)
def test_derivation_that_a_run_would_refuse(
    tmp_path: Path, derive: Callable[[Sequence[StateDict]], Outcome], message: str
) -> None:
    """Aliases of parents, other dtypes, other counts, facts that are no JSON."""
    with pytest.raises(AssertionError, match=message):
        derived(derive, tmp_path)


def test_derivation_that_is_fine(tmp_path: Path) -> None:
    """A copy keeps the contract."""
    derived(lambda parents: ([copies(parents[0])], {"parents": 2}), tmp_path)


class Arrays(toys.Blobs):
    """NumPy arrays instead of tensors."""

    name = "arrays"

    def load(self, root: Path) -> tuple[Split, Split]:
        train, test = super().load(root)
        return Split(train.images.numpy(), train.labels), test  # type: ignore[arg-type]


class Unfinished(toys.Blobs):
    """A further split that is not defined."""

    name = "unfinished"
    evaluation_splits = ("dark",)


class Shadowing(toys.Blobs):
    """A further split under a name that is taken."""

    name = "shadowing"
    evaluation_splits = ("test",)


def test_images_of_another_kind_are_named(tmp_path: Path) -> None:
    """The message says what the images are, and what is expected."""
    with pytest.raises(AssertionError, match=r"arrays: a training split that is not images uint8 .*: its images are a ndarray"):
        check_dataset(Arrays(), tmp_path)


def test_further_splits_are_checked(tmp_path: Path) -> None:
    """They exist, and their names are their own."""
    with pytest.raises(NotImplementedError, match=r"unfinished\.evaluation_splits names 'dark', but load_split is not defined"):
        check_dataset(Unfinished(), tmp_path)
    with pytest.raises(AssertionError, match="evaluation_splits names 'test', which every data set has"):
        check_dataset(Shadowing(), tmp_path)


def test_epoch_that_is_no_integer_names_itself() -> None:
    """Half of T is a float; the builder fails where the handle is made."""

    class Half(harness.EnsembleBuilder):
        name = "half"

        def build(self, cell: harness.Cell) -> Sequence[harness.Weights]:
            return [cell.trajectory(member=j).at(cell.epochs / 2) for j in range(cell.size)]  # type: ignore[arg-type]

    with pytest.raises(AssertionError, match=r"^half: build fails: epoch must be an integer, not 5\.0"):
        check_ensemble_builder(Half(), Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=10)), CrossEntropy())


@pytest.mark.parametrize(
    ("twins", "problem"), [(True, "some members are the same weights"), (False, "build fails: .*not iterable")]
)
def test_builder_of_equal_members_or_of_no_list(twins: bool, problem: str) -> None:
    """Equal handles are one network, and a training is not a list of members."""

    class Odd(harness.EnsembleBuilder):
        name = "odd"

        def build(self, cell: harness.Cell) -> Any:
            run = cell.trajectory(member=0)
            return [run.at(cell.epochs), run.at(cell.epochs)] if twins else run

    with pytest.raises(AssertionError, match=problem):
        check_ensemble_builder(Odd(), Setting(toys.Blobs(), toys.Perceptron(), Recipe(epochs=4)), CrossEntropy())


def test_metric_whose_first_value_has_another_name() -> None:
    """The message has both names."""
    with pytest.raises(AssertionError, match=r"gave 'other' first; its own MetricValue first is expected, named 'fixed'$"):
        check_metric(metric_of(MetricValue("other", 1.0)))


def test_recomputed_statistics_fit_the_weights(tmp_path: Path) -> None:
    """The context's helper gives BatchNorm's mean of the training images at the weights of a state, by hand."""
    context = derivation_context(toys.Perceptron(toys.Perceptron.Options(batchnorm=True)), toys.Blobs(), tmp_path)
    state = context.network().state_dict()
    again = context.recompute_statistics(state)
    names = [name for name in state if name.endswith("running_mean")]
    assert names
    network = context.network()
    network.load_state_dict(state)
    layers = list(network.children())
    (index,) = [number for number, layer in enumerate(layers) if isinstance(layer, torch.nn.BatchNorm1d)]
    with torch.no_grad():
        features = torch.nn.Sequential(*layers[:index])(context.normalize(context.train.images))
    torch.testing.assert_close(again[names[0]], features.mean(0), rtol=1e-4, atol=1e-5)
    assert torch.equal(again[f"{index - 1}.weight"], state[f"{index - 1}.weight"])


class Shaded(harness.EvaluationSet):
    """Blobs' test images, half as bright."""

    name, version = "shaded", 1
    names: Sequence[str] = ("shaded",)

    def splits(self, dataset: harness.Dataset) -> Sequence[str]:
        return self.names

    def fingerprint(self, dataset: harness.Dataset, split: str) -> str:
        return "shaded"

    def load(self, dataset: harness.Dataset, split: str, root: Path) -> Split:
        _, test = dataset.load(root)
        return Split(test.images // 2, test.labels)


def test_evaluation_set_that_is_fine(tmp_path: Path) -> None:
    """It has the test images' labels and the data set's form."""
    check_evaluation_set(Shaded(), toys.Blobs(), tmp_path)


class Unlabeled(Shaded):
    out_of_distribution = True


class Reversed(Shaded):
    def load(self, dataset: harness.Dataset, split: str, root: Path) -> Split:
        _, test = dataset.load(root)
        return Split(test.images, test.labels.flip(0))


class Cropped(Shaded):
    def load(self, dataset: harness.Dataset, split: str, root: Path) -> Split:
        _, test = dataset.load(root)
        return Split(test.images[..., :3], test.labels)


class Random(Shaded):
    def load(self, dataset: harness.Dataset, split: str, root: Path) -> Split:
        _, test = dataset.load(root)
        return Split(torch.randint(0, 256, test.images.shape, dtype=torch.uint8), test.labels)


class Alike(Shaded):
    names = ("one", "two")


class Empty(Shaded):
    names = ()


@pytest.mark.parametrize(
    ("evaluation_set", "message"),
    [
        (Unlabeled(), r"^shaded: split 'shaded': has labels other than 0, though its images are of none of the classes"),
        (Reversed(), r"^shaded: split 'shaded': its labels are not those of the test images"),
        (Cropped(), r"^shaded: a split 'shaded' that is not images uint8 \(n, 1, 4, 4\)"),
        (Random(), r"^shaded: loading split 'shaded' twice gives other images"),
        (Alike(), r"^shaded: two splits have one fingerprint"),
        (Empty(), r"^shaded: it has no splits"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Shaded) else "",
)
def test_evaluation_set_that_breaks_its_contract(evaluation_set: harness.EvaluationSet, message: str, tmp_path: Path) -> None:
    """Labels, form, randomness and fingerprints are told by name."""
    with pytest.raises(AssertionError, match=message):
        check_evaluation_set(evaluation_set, toys.Blobs(), tmp_path)


class OnLogits(harness.Coupling):
    """A joint loss that does not depend on the options; subclasses break it."""

    name, shares_batch = "on_logits", True

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return losses.sum() - logits.var(0).mean().sqrt()


class OfOne(OnLogits):
    """Trains the first member only."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return losses[0]


class PerMember(OnLogits):
    """One loss per member."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return losses


class Reading(OnLogits):
    """Reads a value back."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return losses.sum() * (2 if float(losses[0].detach()) > 1 else 1)


class Drawing(OnLogits):
    """Draws from torch's generator."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (losses * torch.rand(len(losses))).sum()


class Needless(OnLogits):
    """Says that it changes nothing, and does."""

    def joint_loss(self, losses: torch.Tensor, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return 2 * losses.sum()

    def simplified(self, members: int) -> harness.Coupling | None:
        return None


class Twofold(OnLogits):
    """A coupling of two kinds."""

    mixes = True


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (OnLogits, "its joint loss is not finite where the members' predictions are equal"),
        (OfOne, "the gradient of its joint loss does not reach member 1"),
        (PerMember, r"joint_loss gave a tensor \(3,\); a scalar is expected"),
        (Reading, "it reads a value of a tensor"),
        (Drawing, "the same predictions give another joint loss"),
        (Needless, "it simplifies to nothing, but changes the gradient"),
        (Twofold, "it has both mixes and shares_batch; one of them at most"),
    ],
)
def test_coupling_whose_joint_loss_is_wrong(cls: type[harness.Coupling], problem: str) -> None:
    """It is named, with what is wrong."""
    with pytest.raises(AssertionError, match=rf"^on_logits: {problem}"):
        check_coupling(cls())
