"""Similarities between the units of several networks, from their activations on the same images.

Sums are float64 and streamed: the memory is that of one batch of activations and of one matrix (units, units) per place and
pair of networks. Networks run in eval mode, without fused kernels, so that every operation is seen.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from itertools import combinations
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness import StateDict, TaskFailed, kernels
from harness_basin.matching.activation.features import Feature, FeatureMap, Place
from harness_basin.matching.coordinate_descent.nested_assignment import Grams
from harness_basin.matching.operation_mode import OperationMode
from harness_basin.matching.tracing import unfused_attention
from harness_basin.matching.verification import tensor_leaves

Similarity = Literal["pearson", "uncentered"]

EPSILON = 1e-4
"""Added to variances. REPAIR's code (Jordan et al., ICLR 2023) adds it to σ_a σ_b, which is the same for equal deviations.

There, a unit of small variance can be more similar to a unit of large variance than to itself.
"""

_TIE = 1e-6  # weight of correlations before a ReLU, for units that are constant after it
_CONSTANT = 1e-12  # variance of a unit, relative to its mean square, that is rounding: such a unit is constant

Pairs = dict[tuple[int, int], Grams]
"""Similarities (units of i, units of j) by pair of networks i < j and by group."""


def unit_similarities(
    network: nn.Module,
    states: Sequence[StateDict],
    features: FeatureMap,
    batches: Iterable[Tensor],
    similarity: Similarity = "pearson",
) -> Pairs:
    """Return the similarities between the units of every two networks.

    `network` gives the architecture and the device, `states` the weights; `batches` are normalized images on that device.
    `pearson` is cov / √((σ_a² + 1e-4)(σ_b² + 1e-4)) over all images and positions, `uncentered` the mean product. Both are
    positive semidefinite, so that a network is matched to itself by the identity. A constant unit has the correlation 0 with
    all others. Two units that a ReLU makes constant get 1e-6 times the correlation before it, on the first batch, which decides
    among such units alone.

    Raise `TaskFailed` for activations that are not finite, and for a network whose operations depend on the images.
    """
    moments = _read(network, states, features, batches)
    pairs: Pairs = {}
    for pair in combinations(range(len(states)), 2):
        pairs[pair] = {feature.group: _gram(feature, moments, pair, similarity) for feature in features.features}
    return pairs


def _read(
    network: nn.Module, states: Sequence[StateDict], features: FeatureMap, batches: Iterable[Tensor]
) -> Mapping[Place, _Moments]:
    """Return the moments of all networks at every place. Those before activation functions are read in the first batch only."""
    networks = []
    for state in states:
        member = copy.deepcopy(network).eval()
        member.load_state_dict(state)
        networks.append(member)
    moments = {place: _Moments(place, len(states)) for feature in features.features for place in feature.recorded}
    recorded = features
    for number, images in enumerate(batches):
        if number == 0:
            for member in networks:
                _run(member, images)  # a network may store what it computes in its first run
        found = [recorded_activations(member, images, recorded) for member in networks]
        for place in found[0]:
            moments[place].add([activations[place] for activations in found])
        recorded = features.without_before()
    for place in sorted(moments, key=lambda place: place.operation):
        moments[place].finish()
    return moments


def _gram(feature: Feature, moments: Mapping[Place, _Moments], pair: tuple[int, int], similarity: Similarity) -> np.ndarray:
    """Return the similarities of a group's units between two networks."""
    i, j = pair
    terms = []
    for place, before in zip(feature.places, feature.before, strict=True):
        terms.append(moments[place].similarity(i, j, similarity))
        if before is not None:
            both_constant = np.outer(moments[place].constant(i), moments[place].constant(j))
            terms.append(_TIE * both_constant * moments[before].similarity(i, j, "pearson"))
    return np.sum(terms, axis=0)


def recorded_activations(network: nn.Module, images: Tensor, features: FeatureMap) -> Mapping[Place, Tensor]:
    """Return the activations of a network in eval mode at all places, (positions, units). `images` are at least 2."""
    recorder = _Recorder(features, len(images))
    _run(network, images, recorder)
    recorder.require_all()
    return recorder.found


def _run(network: nn.Module, images: Tensor, recorder: _Recorder | None = None) -> None:
    """Run a network as it was traced."""
    inputs = images.clone()  # a network may change its input in place
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(kernels.enabled(False))
        stack.enter_context(unfused_attention())
        if recorder is not None:
            stack.enter_context(recorder)
        network(inputs)


class _Recorder(OperationMode):
    """Copies the activations at all places while a network runs, and checks that its operations are the expected ones."""

    def __init__(self, features: FeatureMap, images: int) -> None:
        super().__init__()
        self.found: dict[Place, Tensor] = {}
        self._images = images
        self._overloads = features.overloads
        self._count = 0
        self._new: list[Any] = []
        self._by_operation: dict[int, list[Place]] = {}
        for feature in features.features:
            for place in feature.recorded:
                self._by_operation.setdefault(place.operation, []).append(place)

    def __torch_dispatch__(self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not tensor_leaves((args, kwargs)):
            self._new.append(result)  # torch detaches a new tensor that something refers to, as the trace does
        number = self._count
        self._count += 1
        expected = self._overloads[number] if number < len(self._overloads) else "none"
        if str(func) != expected:
            raise _changed_operations(number, str(func), expected)
        places = self._by_operation.get(number, ())
        if places:
            results = tensor_leaves(result)
            for place in places:
                self.found[place] = place.values(results[place.result], self._images)
        return result

    def require_all(self) -> None:
        """Raise `TaskFailed` if fewer operations ran than expected."""
        if self._count < len(self._overloads):
            raise _changed_operations(self._count, "none", self._overloads[self._count])


def _changed_operations(number: int, found: str, expected: str) -> TaskFailed:
    return TaskFailed(
        f"activations: operation {number} of the network is {found} on these images and was {expected} before; a network whose "
        "operations depend on its images cannot be aligned by activations; take the alignment weights"
    )


class _Moments:
    """Sums over positions of the activations of all networks at a place, and of their products; float64."""

    def __init__(self, place: Place, networks: int) -> None:
        self._place = place
        self._count = 0
        zero = torch.zeros((), dtype=torch.float64)
        self._sums = [zero] * networks
        self._squares = [zero] * networks
        self._products = dict.fromkeys(combinations(range(networks), 2), zero)

    def add(self, activations: Sequence[Tensor]) -> None:
        """Add the activations (positions, units) of every network."""
        self._count += len(activations[0])
        doubles = [values.double() for values in activations]
        for i, values in enumerate(doubles):
            self._sums[i] = self._sums[i] + values.sum(0)
            self._squares[i] = self._squares[i] + values.square().sum(0)
        for i, j in self._products:
            self._products[i, j] = self._products[i, j] + doubles[i].T @ doubles[j]

    def finish(self) -> None:
        """Copy the sums to the host. Raise `TaskFailed` if activations were not finite."""
        self._sums = [torch.as_tensor(total).cpu() for total in self._sums]
        self._squares = [torch.as_tensor(total).cpu() for total in self._squares]
        self._products = {pair: torch.as_tensor(total).cpu() for pair, total in self._products.items()}
        for network, total in enumerate(self._sums):
            wrong = total[~total.isfinite()]
            if len(wrong):
                value = "NaN" if wrong[0].isnan() else "infinite"
                raise TaskFailed(
                    f"activations: {self._place}: activations of member {network} are {value}; has it diverged? "
                    "leave it out, or take another seed"
                )

    def similarity(self, i: int, j: int, kind: Similarity) -> np.ndarray:
        """Return the similarities (units of i, units of j) over all positions so far."""
        product = self._products[i, j] / self._count
        if kind == "uncentered":
            return product.numpy()
        mean_i, variance_i = self._statistics(i)
        mean_j, variance_j = self._statistics(j)
        covariance = product - torch.outer(mean_i, mean_j)
        correlation = covariance / torch.outer(variance_i + EPSILON, variance_j + EPSILON).sqrt()
        correlation[variance_i == 0] = 0
        correlation[:, variance_j == 0] = 0
        return correlation.numpy()

    def constant(self, network: int) -> np.ndarray:
        """Return which units are constant, bool (units,)."""
        return (self._statistics(network)[1] == 0).numpy()

    def _statistics(self, network: int) -> tuple[Tensor, Tensor]:
        """Return mean and variance per unit; the latter is 0 where it is rounding."""
        mean = self._sums[network] / self._count
        mean_square = self._squares[network] / self._count
        variance = mean_square - mean.square()
        variance[variance <= _CONSTANT * mean_square] = 0
        return mean, variance
