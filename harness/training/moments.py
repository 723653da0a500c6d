"""Collects moments of a network's weights during its training: mean, mean of squares, last deviations (Maddox et al. 2019)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from harness.api.moments import Moments
from harness.networks.flat_network import FlatNetwork, Slot, StateDict
from harness.networks.host_copy import to_host

PREFIX = "moments-"
"""Prefix of the names of parts with moments."""

_MEAN, _SQUARE, _DEVIATION = f"{PREFIX}mean", f"{PREFIX}square", f"{PREFIX}deviation-"


def moment_parts(names: Iterable[str]) -> list[str]:
    """Return those names of an object's parts that hold moments."""
    return [name for name in names if name.startswith(PREFIX)]


class MomentCollector:
    """The moments of a network's vector over the epochs so far. On the network's device; sums are in float64.

    Values that are infinite, such as the bounds of a clamp, count as 0. The state is a mapping of parts to state dicts with the
    names of the parameters and floating-point buffers; names of tied tensors are all there.
    """

    def __init__(self, network: FlatNetwork, moments: Moments, saved: Mapping[str, StateDict], count: int) -> None:
        """Continue from the saved parts, of `count` epochs; from nothing if that is 0."""
        self.count = count
        self._network = network
        self._first = moments.first
        size, device = len(network.vector), network.vector.device
        self._mean = torch.zeros(size, dtype=torch.float64, device=device)
        self._square = torch.zeros(size, dtype=torch.float64, device=device)
        self._deviations: deque[Tensor] = deque(maxlen=moments.columns)
        if count:
            self._mean.copy_(self._flat(saved[_MEAN], torch.float64))
            self._square.copy_(self._flat(saved[_SQUARE], torch.float64))
            for column in range(min(moments.columns, count)):
                self._deviations.append(self._flat(saved[f"{_DEVIATION}{column}"], network.vector.dtype).to(device))

    def after_epoch(self, epoch: int) -> None:
        """Collect the weights at the end of an epoch, if collecting has begun."""
        if epoch < self._first:
            return
        vector = self._network.vector
        finite = torch.where(vector.isinf(), 0, vector).double()
        self.count += 1
        self._mean += (finite - self._mean) / self.count
        self._square += (finite.square() - self._square) / self.count
        if self._deviations.maxlen:
            self._deviations.append((finite - self._mean).to(vector.dtype))

    def parts(self) -> dict[str, StateDict]:
        """Return copies of the moments on the CPU, as parts of a stored object; nothing before the first epoch."""
        if not self.count:
            return {}
        parts = {_MEAN: self._named(self._mean), _SQUARE: self._named(self._square)}
        for column, deviation in enumerate(self._deviations):
            parts[f"{_DEVIATION}{column}"] = self._named(deviation)
        return parts

    def _named(self, vector: Tensor) -> StateDict:
        """Return a vector as named tensors in contiguous memory, a tied tensor under each of its names."""
        on_cpu = to_host(vector, copy=True)
        slots = self._slots()
        return {name: slot.view(on_cpu).clone(memory_format=torch.contiguous_format) for name, slot in slots.items()}

    def _flat(self, state: StateDict, dtype: torch.dtype) -> Tensor:
        vector = torch.zeros(len(self._network.vector), dtype=dtype)
        for name, slot in self._slots().items():
            slot.view(vector).copy_(state[name])
        return vector

    def _slots(self) -> dict[str, Slot]:
        """Return the slot of every name in the state dict whose tensor is in the vector."""
        by_address = {slot.view(self._network.vector).data_ptr(): slot for slot in self._network.slots}
        found = {}
        for name, tensor in self._network.module.state_dict().items():
            if isinstance(tensor, Tensor) and tensor.data_ptr() in by_address:
                found[name] = by_address[tensor.data_ptr()]
        return found
