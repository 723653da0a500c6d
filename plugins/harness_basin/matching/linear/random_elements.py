"""Random elements of linear groups, drawn from a stream. They serve to check groups, and to test alignments."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness import streams
from harness_basin.matching.linear.linear_groups import Elements, LinearGroup
from harness_basin.normal_numbers import normal


def random_elements(groups: Sequence[LinearGroup], stream: int, *, spread: float = 1.0) -> Elements:
    """Return independent random elements.

    Scales are exp(s) for uniform s in [-spread, spread]. Orthogonal matrices are uniformly distributed; with `fixes_ones`, on
    the complement of the vector of ones. Invertible matrices are U diag(exp(s)) V with such orthogonal U and V.
    """
    return tuple(_element(group, streams.key("element", stream, number), spread) for number, group in enumerate(groups))


def _element(group: LinearGroup, key: int, spread: float) -> Tensor:
    if group.kind == "scale":
        return _scales(group.shape, streams.key("scales", key), spread)
    if group.kind == "orthogonal":
        return _orthogonal(group, streams.key("first", key))
    scales = _scales(group.shape[:-1], streams.key("scales", key), spread)
    return _orthogonal(group, streams.key("first", key)) @ (scales[..., None] * _orthogonal(group, streams.key("second", key)))


def _scales(shape: Sequence[int], key: int, spread: float) -> Tensor:
    n = torch.Size(shape).numel()
    return torch.exp(spread * (2 * streams.uniform(key, torch.arange(n)).double() - 1)).reshape(shape)


def _orthogonal(group: LinearGroup, key: int) -> Tensor:
    """Return uniformly distributed orthogonal matrices. With `fixes_ones`, they keep the vector of ones."""
    if not group.fixes_ones:
        return _q_factor(normal(group.shape, key))
    basis = ones_complement(group.size)
    return basis @ _q_factor(basis.T @ normal(group.shape, key) @ basis) @ basis.T + 1 / group.size


def _q_factor(matrices: Tensor) -> Tensor:
    """Return the Q of QR decompositions with a positive diagonal of R: uniformly distributed for normal matrices."""
    q, r = torch.linalg.qr(matrices)
    return q * torch.diagonal(r, dim1=-2, dim2=-1).sign()[..., None, :]


def ones_complement(size: int) -> Tensor:
    """Return an orthonormal basis of the vectors that sum to 0, (size, size - 1), float64."""
    square = torch.eye(size, dtype=torch.float64)
    square[:, 0] = 1
    q, _ = torch.linalg.qr(square)
    return q[:, 1:]
