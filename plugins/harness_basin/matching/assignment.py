"""Linear assignment: which unit goes where, so that the gains add up to the most."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

LARGE = 192
"""From this size on, potentials cost less than they save: half the time at 256 units of a ResNet20."""

TEMPERATURES, STEPS = (0.4, 0.1), 10


def assign(gains: np.ndarray) -> np.ndarray:
    """Return the permutation p (n,) that maximises Σ_i gains[i, p[i]]; gains (n, n)."""
    favourites = gains.argmax(1)
    if len(np.unique(favourites)) == len(gains):
        return favourites
    if len(gains) < LARGE:
        return linear_sum_assignment(gains, maximize=True)[1]
    shift = _potentials(torch.from_numpy(gains).float()).double().numpy()
    return linear_sum_assignment(gains - shift, maximize=True)[1]


def _potentials(gains: Tensor) -> Tensor:
    """Return what to subtract from the columns, (n,): near the dual optimum, so that the solver's paths are short.

    Subtracting from columns does not move the optimum, so these may be rough: the column potentials of the entropic
    relaxation (Sinkhorn's iteration) at two falling temperatures.
    """
    spread = gains[:: max(1, len(gains) // 32)].std().clamp_min(1e-30)
    potentials = torch.zeros(len(gains))
    for temperature in (spread * t for t in TEMPERATURES):
        kernel = gains - potentials
        kernel = kernel.sub_(kernel.amax(1, keepdim=True)).div_(temperature).clamp_min_(-80.0).exp_()
        columns = torch.ones(len(gains))
        for _ in range(STEPS):
            columns = ((kernel @ columns).reciprocal_() @ kernel).clamp_min_(1e-30).reciprocal_()
        potentials = potentials - temperature * columns.log_()
    return potentials
