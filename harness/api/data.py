"""Images with labels, and state dicts: the data that plugins receive and return.

Importing this module does not import torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


StateDict = dict[str, "torch.Tensor"]
"""A network's state dict: parameters and buffers by name, on the CPU."""


@dataclass(frozen=True)
class Split:
    """Training or test images with their labels, on the CPU.

    `images` are uint8 (n, channels, height, width). `labels` are int64 (n,), from 0 to classes - 1.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)
