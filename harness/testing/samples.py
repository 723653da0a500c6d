"""What metrics and derivations are tested with: an ensemble of linear classifiers, and a context on the CPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness import streams
from harness.api.choice import PluginChoice
from harness.api.data import Split, StateDict
from harness.api.derivation import DerivationContext
from harness.api.ensemble import EvaluatedEnsemble
from harness.api.interfaces import Architecture, Dataset
from harness.api.normalization import normalization_of
from harness.api.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor, nn

    from harness.api.correction import Correction
    from harness.networks.interpolation import InterpolatedNetwork


def evaluated_ensemble(members: int = 3, examples: int = 60, classes: int = 4, seed: int = 0) -> EvaluatedEnsemble:
    """Return an ensemble of linear classifiers on random features, with interpolation, for tests of metrics."""
    import numpy as np

    rng = np.random.default_rng(seed)
    features = rng.normal(size=(examples, 6))
    teacher = rng.normal(size=(6, classes))
    labels = (features @ teacher).argmax(axis=1)
    matrices = teacher + rng.normal(size=(members, 6, classes))
    logits = np.einsum("ef,mfc->mec", features, matrices).astype(np.float32)
    return EvaluatedEnsemble(logits, labels, seed, lambda: _Linear(matrices, features, labels))


class _Linear:
    """A linear classifier whose weights can be any affine combination of several matrices'. Its images are its features."""

    has_running_statistics = False

    def __init__(self, matrices: np.ndarray, features: np.ndarray, labels: np.ndarray) -> None:
        self._matrices, self._features, self._labels = matrices, features, labels

    def correct(self, point: np.ndarray, labels: np.ndarray, correction: PluginChoice | None) -> np.ndarray:
        return self.logits(point, "test", correction).argmax(axis=1) == labels

    def logits(self, point: np.ndarray, split: str, correction: PluginChoice | None) -> np.ndarray:
        import numpy as np

        self._require_split(split)
        logits = self._features @ np.tensordot(point, self._matrices, axes=1)
        return logits.astype(np.float32)

    def module(self, point: np.ndarray, correction: PluginChoice | None) -> nn.Module:
        import numpy as np
        import torch
        from torch import nn

        features, classes = self._matrices.shape[1:]
        layer = nn.Linear(features, classes, bias=False)
        layer.weight.data = torch.tensor(np.tensordot(point, self._matrices, axes=1).T, dtype=torch.float32)
        return layer.eval()

    def state_dict(self, member: int) -> StateDict:
        import torch

        return {"weight": torch.tensor(self._matrices[member].T, dtype=torch.float32)}

    def split(self, name: str) -> Split:
        import torch

        self._require_split(name)
        return Split(torch.tensor(self._features), torch.tensor(self._labels))

    def _require_split(self, name: str) -> None:
        if name not in ("test", "train"):
            raise ValueError(f"unknown split '{name}'; known: test, train")


def interpolated_networks(corrections: Callable[[PluginChoice], Correction]) -> InterpolatedNetwork:
    """Return the network between three random ones with a convolution, BatchNorm, and a linear layer before the classifier."""
    import torch
    from torch import nn

    from harness.networks.evaluation import NormalizedImages
    from harness.networks.flat_network import FlatNetwork
    from harness.networks.interpolation import InterpolatedNetwork
    from harness.networks.recomputation import recomputed

    with streams.seeded(streams.key("interpolated_networks")):
        images = torch.randint(0, 256, (32, 1, 6, 6), dtype=torch.uint8)
        split = Split(images, torch.arange(32) % 3)
        pictures = NormalizedImages(split, ((0.5,), (0.3,)), torch.device("cpu"))
        states = []
        for _ in range(3):
            convolution = [nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
            module = nn.Sequential(*convolution, nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
            states.append(recomputed(FlatNetwork(module), module.state_dict(), pictures))
    return InterpolatedNetwork(
        FlatNetwork(module), states, pictures, pictures, splits=lambda name: (split, pictures), corrections=corrections
    )


def derivation_context(architecture: Architecture, dataset: Dataset, root: Path, seed: int = 0) -> DerivationContext:
    """Return a context for tests of derivations: network, data and random stream, on the CPU. `root` is the data root.

    Nothing was saved before, and what is saved is forgotten.
    """
    import torch

    from harness.networks.evaluation import NormalizedImages
    from harness.networks.flat_network import FlatNetwork
    from harness.networks.recomputation import recomputed
    from harness.training.augmentation import Augmenter
    from harness.training.epoch_batches import EpochBatches

    dataset = dataset.located(root)
    train, test = dataset.load(root)
    cpu = torch.device("cpu")
    normalization = normalization_of(Recipe(), dataset)

    def network() -> nn.Module:
        with streams.seeded(0):
            return architecture.build(dataset.shape, dataset.num_classes)

    def normalize(images: Tensor) -> Tensor:
        split = Split(images, torch.zeros(len(images)))
        return torch.cat(list(NormalizedImages(split, normalization, cpu).batches()))

    def split(name: str) -> Split:
        if name in ("train", "test"):
            return train if name == "train" else test
        return dataset.load_split(name, root)

    def recompute_statistics(state: StateDict) -> StateDict:
        return recomputed(FlatNetwork(network(), cpu), state, NormalizedImages(train, normalization, cpu))

    stream = streams.key("derivation_context", seed)
    mean, std = normalization
    augmenter = Augmenter(train.images, Recipe().augmentation, mean, std)
    batches = EpochBatches(NormalizedImages(train, normalization, cpu), train.labels, augmenter, stream)
    return DerivationContext(
        network=network,
        train=train,
        test=test,
        normalize=normalize,
        device=cpu,
        stream=stream,
        split=split,
        recompute_statistics=recompute_statistics,
        batches=batches,
        resume=lambda: None,
        save=lambda state: None,
    )
