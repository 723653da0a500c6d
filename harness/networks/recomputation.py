"""A state dict with running statistics that fit its weights."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from harness.networks.evaluation import NormalizedImages, full_precision
from harness.networks.flat_network import FlatNetwork, StateDict
from harness.networks.host_copy import to_host
from harness.networks.running_statistics import RunningStatistics
from harness.networks.statistics_sample import sample_batches


def recomputed(network: FlatNetwork, state: StateDict, train: NormalizedImages) -> StateDict:
    """Return a copy of a state with running statistics recomputed on a sample of the training images.

    `network` is one that the state fits; it is changed. The sample is the one that metrics use.
    """
    sample = sample_batches(to_host(train.images)).to(train.images.device)

    def batches() -> Iterator[Tensor]:
        for indices in sample:
            yield train.take(indices)

    network.load(state)
    with full_precision():
        statistics = RunningStatistics(network, batches)
        network.load(state)
        statistics.recompute()
    return network.state()
