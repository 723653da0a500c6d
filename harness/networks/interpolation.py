"""The network at any convex combination of an ensemble's members."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from harness.api.ensemble import BatchNorm
from harness.errors import Interrupted, TaskFailed, attribute_errors
from harness.networks.evaluation import NormalizedImages, full_precision, predict, predict_batch
from harness.networks.flat_network import EXTRA_STATE, FlatNetwork, StateDict
from harness.networks.running_statistics import RunningStatistics, sample_batches

_PROBED = 64  # test images on which a buffer that differs between members is shown to be without effect


class InterpolatedNetwork:
    """One network that is set to Σ_i λ_i θ_i, the weights of the members as one matrix Θ, float32 (members, size).

    What is not in the vector (buffers of other dtypes, extra state) is not interpolated. At a member, it is that member's own.
    Elsewhere it is what all members have in common; where they differ and outputs depend on it, there is no network in between,
    and `TaskFailed` names the buffer. Running statistics are recomputed on a sample of the training images. `label` is how
    messages call the architecture.
    """

    def __init__(
        self,
        network: FlatNetwork,
        states: Sequence[StateDict],
        test: NormalizedImages,
        train: NormalizedImages,
        *,
        label: str = "the network",
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.network, self.test, self._train = network, test, train
        self._label, self._stopping = label, stopping
        self.matrix = torch.stack([network.flatten(state).to(network.vector.device) for state in states])
        self._infinite = torch.nonzero((~self.matrix.isfinite()).any(0)).flatten()
        names = [name for name in states[0] if name in network.fixed_buffers or name.rpartition(".")[2] == EXTRA_STATE]
        self._fixed = [{name: state[name] for name in names} for state in states]
        self._differing = [name for name in names if _differ([fixed[name] for fixed in self._fixed])]
        self._sample: Tensor | None = None
        self.set_member(0)
        with full_precision(), attribute_errors(label, "forward"):
            self.statistics = RunningStatistics(network, self._batches)

    @property
    def has_running_statistics(self) -> bool:
        """Whether the network keeps running statistics, which no combination of weights gets right."""
        return bool(self.statistics.averages)

    def set_member(self, index: int) -> None:
        """Set the network to a member, to the bit."""
        self.network.set_vector(self.matrix[index])
        self.network.load_fixed(self._fixed[index])

    def move(self, point: np.ndarray, batchnorm: BatchNorm = "recompute") -> None:
        """Set the network to Σ_i point[i] θ_i; a corner of the simplex is that member, its own statistics included."""
        corner = np.flatnonzero(point == 1.0)
        if len(corner) == 1 and np.count_nonzero(point) == 1:
            self.set_member(int(corner[0]))
            return
        self._require_common_buffers()
        self.network.load_fixed(self._fixed[0])
        weights = torch.tensor(point, dtype=self.matrix.dtype, device=self.matrix.device)
        with full_precision():
            torch.mv(self.matrix.t(), weights, out=self.network.vector)
            if len(self._infinite):  # bounds of a clamp, say; a member without weight would make them 0 · ∞
                present = weights > 0
                self.network.vector[self._infinite] = weights[present] @ self.matrix[present][:, self._infinite]
            self.network.restore_buffers()
            if batchnorm == "recompute":
                self.statistics.recompute()

    def correct(self, point: np.ndarray, labels: np.ndarray, batchnorm: BatchNorm = "recompute") -> np.ndarray:
        """Return where the network at a point is right: bool (examples,). Outputs that are not finite are wrong.

        Raise `Interrupted` if the user wants to stop: measuring can take long.
        """
        if self._stopping():
            raise Interrupted
        with attribute_errors(self._label, "forward"):
            self.move(point, batchnorm)
            logits = predict(self.network, self.test)
        guesses = logits.argmax(1).masked_fill_(~logits.isfinite().all(1), -1)
        return guesses.cpu().numpy() == labels

    def _batches(self) -> Iterator[Tensor]:
        if self._sample is None:
            self._sample = sample_batches(self._train.images.cpu())
        for indices in self._sample:
            yield self._train.take(indices)

    def _require_common_buffers(self) -> None:
        """Refuse to interpolate between members whose fixed buffers differ, unless no output depends on these (a counter)."""
        if not self._differing:
            return
        images = self.test.take(torch.arange(min(_PROBED, len(self.test))))
        for index in range(len(self.matrix)):
            self.set_member(index)
            own = predict_batch(self.network, images)
            self.network.load_fixed(self._fixed[0])
            if not torch.equal(own, predict_batch(self.network, images)):
                names = ", ".join(f"'{name}'" for name in self._differing)
                raise TaskFailed(
                    f"{self._label}: members cannot be interpolated: they differ in {names}, of which no mean can be taken, "
                    "and their logits depend on it; make it the same for all members"
                )
        self._differing = []


def _differ(values: Sequence[Tensor]) -> bool:
    return not all(torch.equal(value, values[0]) for value in values[1:])
