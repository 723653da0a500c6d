"""The network at any affine combination of an ensemble's members."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.api.choice import PluginChoice
from harness.api.correction import Correction, CorrectionContext, Removable
from harness.api.data import Split
from harness.api.task import canonical_json
from harness.errors import Interrupted, TaskFailed, attribute_errors
from harness.networks.evaluation import NormalizedImages, full_precision, predict, predict_batch
from harness.networks.flat_network import EXTRA_STATE, FlatNetwork, StateDict
from harness.networks.host_copy import to_host
from harness.networks.running_statistics import RunningStatistics
from harness.networks.statistics_sample import sample_batches

_PROBE_IMAGES = 64  # test images on which a buffer that differs between members must have no effect


class InterpolatedNetwork:
    """One network that can be set to any Σ_i λ_i θ_i. `matrix` has the members' weights θ_i, float32 (members, size).

    Buffers of other dtypes and extra state are not interpolated. At a member they are that member's own. Elsewhere all members
    must have the same ones; if members differ in a buffer and outputs depend on it, `TaskFailed` names the buffer. Running
    statistics are recomputed on a sample of the training images. `label` names the architecture in messages. `splits` finds a
    split of the data set by its name, and `corrections` a correction by its name and options.
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
        splits: Callable[[str], tuple[Split, NormalizedImages]] | None = None,
        corrections: Callable[[PluginChoice], Correction] | None = None,
    ) -> None:
        self.network = network
        self._splits = splits
        self._corrections = corrections
        self._prepared: dict[str, tuple[Correction, Any]] = {}
        self._handles: Sequence[Removable] = ()
        self.test = test
        self._train = train
        self._label = label
        self._stopping = stopping
        self.matrix = torch.stack([network.flatten(state).to(network.vector.device) for state in states])
        self._infinite = torch.nonzero((~self.matrix.isfinite()).any(0)).flatten()
        names = [name for name in states[0] if name in network.fixed_buffers or name.rpartition(".")[2] == EXTRA_STATE]
        self._fixed = [_selected(state, names) for state in states]
        self._differing = [name for name in names if _differs(name, states)]
        self._sample: Tensor | None = None
        self.set_member(0)
        with full_precision(), attribute_errors(label, "forward"):
            self.statistics = RunningStatistics(network, self._batches)

    @property
    def has_running_statistics(self) -> bool:
        """Whether the network keeps running statistics, which interpolation does not get right."""
        return bool(self.statistics.averages)

    def set_member(self, index: int) -> None:
        """Set the network to a member; equal to the bit."""
        self._remove_hooks()
        self.network.set_vector(self.matrix[index])
        self.network.load_fixed(self._fixed[index])

    def move(self, point: np.ndarray, correction: PluginChoice | None = None) -> None:
        """Set the network to Σ_i point[i] θ_i, point float64 (members,) with sum 1.

        A point with a single 1 is that member, with its own running statistics. Without a correction, running statistics are
        recomputed.
        """
        vertex = np.flatnonzero(point == 1.0)
        if len(vertex) == 1 and np.count_nonzero(point) == 1:
            self.set_member(int(vertex[0]))
            return
        self._require_common_buffers()
        if correction is None:
            self._mix(point)
            with full_precision():
                self.statistics.recompute()
            return
        plugin, prepared = self._prepared_correction(correction)
        self._mix(point)
        with full_precision(), torch.no_grad(), attribute_errors(f"correction '{plugin.full_name}'", "correct"):
            self._handles = tuple(plugin.correct(self._context(), point, prepared))

    def _mix(self, point: np.ndarray) -> None:
        """Set the network to Σ_i point[i] θ_i, with running statistics that are interpolated, too."""
        self._remove_hooks()
        self.network.load_fixed(self._fixed[0])
        weights = torch.tensor(point, dtype=self.matrix.dtype, device=self.matrix.device)
        with full_precision():
            torch.mv(self.matrix.t(), weights, out=self.network.vector)
            if len(self._infinite):  # bounds of a clamp, say; a member of weight 0 would make them 0 · ∞
                positive = weights > 0
                self.network.vector[self._infinite] = weights[positive] @ self.matrix[positive][:, self._infinite]
            self.network.restore_buffers()

    def _prepared_correction(self, choice: PluginChoice) -> tuple[Correction, Any]:
        """Return a correction with what it prepared for these members; the network is then at any of them."""
        name = canonical_json(choice)
        if name not in self._prepared:
            if self._corrections is None:
                raise ValueError(f"correction {choice!r}: this network was made without corrections")
            plugin = self._corrections(choice)
            with full_precision(), torch.no_grad(), attribute_errors(f"correction '{plugin.full_name}'", "prepare"):
                self._prepared[name] = plugin, plugin.prepare(self._context())
        return self._prepared[name]

    def _context(self) -> CorrectionContext:
        self.network.module.eval()
        return CorrectionContext(
            network=self.network.module,
            members=len(self.matrix),
            set_member=self.set_member,
            batches=self._batches,
            recompute_statistics=self.statistics.recompute,
            running_statistics=tuple(average.buffer.name for average in self.statistics.averages),
        )

    def _remove_hooks(self) -> None:
        """Remove the hooks of the last correction."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()

    def correct(self, point: np.ndarray, labels: np.ndarray, correction: PluginChoice | None = None) -> np.ndarray:
        """Return which test images the network at a point classifies correctly, bool (examples,).

        Outputs that are not finite count as wrong. Raise `Interrupted` if the user wants to stop, since a measurement of many
        points takes long.
        """
        if self._stopping():
            raise Interrupted
        with attribute_errors(self._label, "forward"):
            self.move(point, correction)
            logits = predict(self.network, self.test)
        predictions = logits.argmax(1).masked_fill_(~logits.isfinite().all(1), -1)
        return to_host(predictions).numpy() == labels

    def logits(self, point: np.ndarray, split: str, correction: PluginChoice | None = None) -> np.ndarray:
        """Return the logits of the network at a point on a split, float32 (examples, classes).

        Raise `Interrupted` if the user wants to stop, and `ValueError` for an unknown split.
        """
        if self._stopping():
            raise Interrupted
        _, images = self._find_split(split)
        with attribute_errors(self._label, "forward"):
            self.move(point, correction)
            return to_host(predict(self.network, images)).numpy()

    def module(self, point: np.ndarray, correction: PluginChoice | None = None) -> nn.Module:
        """Return a copy of the network at a point, in evaluation mode."""
        with attribute_errors(self._label, "forward"):
            self.move(point, correction)
        return copy.deepcopy(self.network.module).eval()

    def state_dict(self, member: int) -> StateDict:
        """Return a copy of a member's parameters and buffers, on the CPU."""
        self.set_member(member)
        return self.network.state()

    def split(self, name: str) -> Split:
        """Return the images and labels of a split; raise `ValueError` for an unknown one."""
        return self._find_split(name)[0]

    def _find_split(self, name: str) -> tuple[Split, NormalizedImages]:
        if self._splits is None:
            raise ValueError("this network was made without splits")
        return self._splits(name)

    def _batches(self) -> Iterator[Tensor]:
        if self._sample is None:
            images = self._train.images
            self._sample = sample_batches(to_host(images)).to(images.device)
        for indices in self._sample:
            yield self._train.take(indices)

    def _require_common_buffers(self) -> None:
        """Raise `TaskFailed` if members differ in fixed buffers and their logits depend on them; a counter has no effect."""
        if not self._differing:
            return
        images = self.test.take(torch.arange(min(_PROBE_IMAGES, len(self.test))))
        for index in range(len(self.matrix)):
            self.set_member(index)
            logits = predict_batch(self.network, images)
            self.network.load_fixed(self._fixed[0])
            if not torch.equal(logits, predict_batch(self.network, images)):
                names = ", ".join(f"'{name}'" for name in self._differing)
                raise TaskFailed(
                    f"{self._label}: members cannot be interpolated: they differ in {names}, of which no mean can be taken, "
                    "and their logits depend on it; make it the same for all members"
                )
        self._differing = []


def _selected(state: StateDict, names: Sequence[str]) -> StateDict:
    return {name: state[name] for name in names}


def _differs(name: str, states: Sequence[StateDict]) -> bool:
    """Return whether a tensor is not the same in all states."""
    return not all(torch.equal(state[name], states[0][name]) for state in states[1:])
