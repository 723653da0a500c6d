"""The interface of derivations. Importing this module does not import torch."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from harness.api.data import Split, StateDict
from harness.api.plugin import Plugin

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Batches(Protocol):
    """The training images of an epoch in batches, as a derivation that trains reads them."""

    def __call__(self, epoch: int, batch_size: int, *, augmented: bool = False) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every training image of an epoch once: normalized float32 images and int64 labels, on the context's device.

        The order depends on the derivation's stream and the epoch, which counts from 0. A batch has at most `batch_size`
        images, and the sizes of the batches differ by one at most. `augmented` applies the recipe's augmentation. Raise
        `ValueError` for an epoch below 0 or a batch size below 1.
        """
        ...


@dataclass(frozen=True)
class DerivationState:
    """What the rest of a derivation that trains depends on, after `epoch` completed epochs.

    `tensors` are on any device; they come back on the CPU. `values` must be serializable as JSON.
    """

    epoch: int
    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DerivationContext:
    """What a derivation may use besides the parents' weights.

    `network()` returns a new network of the parents' architecture on the CPU, always with the same initialization.
    `train` and `test` are the splits of the data set, and `split(name)` finds these and its further ones; do not change
    them in place. `normalize` maps uint8 images (batch, channels, height, width) to normalized float32 images on `device`.
    `recompute_statistics(state)` returns a copy of a state dict whose running statistics (BatchNorm's) are those of a sample
    of the training images at its weights, which averages and alignments need. `stream` is the key of the derivation's random
    stream: pass it to functions of `harness.streams`. `sources` are the files that the derivation declared as `sources`.

    A derivation that trains reads its images with `batches(epoch, batch_size, augmented=False)`, an iterator of (images,
    labels). After every epoch it calls `save(DerivationState(epoch, tensors, values))`, which copies the tensors. When it
    begins, `resume()` returns the last state that was saved before the process ended, or None. It must continue from there with
    equal results, to the bit. If the run must stop, `save` and `batches` raise an exception that `derive` must not catch.
    """

    network: Callable[[], nn.Module]
    train: Split
    test: Split
    normalize: Callable[[Tensor], Tensor]
    device: torch.device
    stream: int
    split: Callable[[str], Split]
    recompute_statistics: Callable[[StateDict], StateDict]
    batches: Batches
    resume: Callable[[], DerivationState | None]
    save: Callable[[DerivationState], None]
    sources: tuple[Path, ...] = ()


class Derivation(Plugin):
    """Computes weights from other weights: an alignment, an average, a sample. It may train.

    class Average(Derivation):
        name = "average"

        def derive(self, parents, context):
            average = {}
            for name, tensor in parents[0].items():
                stacked = torch.stack([parent[name] for parent in parents])
                average[name] = stacked.double().mean(0).to(tensor.dtype)
            return [average], {"parents": len(parents)}

    `outputs` is the number of state dicts that `derive` returns. `sources` are absolute paths of files that it reads, besides
    its parents. They are in no key, so the options must hold what identifies the files, such as their digests.

    `epochs` is what `derive` costs, in epochs of plain training of one network: a number or a property. The columns of training
    budgets count it. It is in no key; options that it depends on are.
    """

    outputs: int = 1
    sources: tuple[Path, ...] = ()
    epochs: float = 0.0

    def check(self, context: DerivationContext) -> None:
        """Raise `TaskFailed` if `derive` fails for any networks of the context, whatever their weights.

        It is called once per setting before the first training, so that nothing is trained in vain: only the cells that need
        the derivation fail. `resume` returns None here, and what is saved is forgotten.
        """
        return

    @abstractmethod
    def derive(self, parents: Sequence[StateDict], context: DerivationContext) -> tuple[Sequence[StateDict], Mapping[str, Any]]:
        """Return `outputs` state dicts, and facts about the computation.

        The state dicts have the names, shapes and dtypes of the parents'. They must not share memory with the
        parents, and the parents must not be changed. The facts must be serializable as JSON; the store keeps them
        in the metadata of the derived object.
        """
