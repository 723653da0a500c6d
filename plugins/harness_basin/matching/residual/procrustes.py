"""Closed-form alignment of matrices: orthogonal maps of a residual stream, and maps within attention heads.

Weights are matrices (units, rest), or (heads, units, rest) within heads. A map X moves the units of the second network: X B.
This module knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from harness_basin.matching.linear.random_elements import ones_complement

RANK_TOLERANCE = 1e-9
"""Singular values below this share of the largest one count as zero."""

REFINEMENT_STEPS = 10
"""The largest number of Gauss-Newton steps for invertible maps."""

HALVINGS = 8
"""How often a step that raises the distance is halved."""

REFINEMENT_PROGRESS = 1e-4
"""Steps that lower every distance by less than this share of it are the last ones."""


def gram(reference: Tensor, other: Tensor) -> Tensor:
    """Return A Bᵀ (…, units, units) of matrices (…, units, rest)."""
    return reference @ other.mT


def orthogonal_map(products: Tensor) -> Tensor:
    """Return the orthogonal matrices R that maximize ⟨G, R⟩, which minimize ‖A - R B‖ for G = A Bᵀ; G (…, n, n).

    The orthogonal Procrustes problem (Schönemann 1966): R = U Vᵀ for the singular value decomposition G = U S Vᵀ.
    """
    left, _, right = torch.linalg.svd(products)
    return left @ right


def partial_map(products: Tensor) -> Tensor:
    """Return U Vᵀ over the nonzero singular values of G (n, n): zero where the weights do not determine the map.

    Unlike an orthogonal completion it moves along when the units of either network are mapped: R A Bᵀ Qᵀ gives R (U Vᵀ) Qᵀ.
    """
    left, values, right = torch.linalg.svd(products)
    known = values > RANK_TOLERANCE * values[0].clamp_min(1e-300)
    return left[:, known] @ right[known]


def stream_map(products: Tensor) -> Tensor:
    """Return the orthogonal matrix R with R 1 = 1 that maximizes ⟨G, R⟩; G (n, n).

    LayerNorm commutes with these maps alone: it subtracts the mean of the residual stream. They are O(n - 1) on the vectors
    whose sum is zero.
    """
    basis = ones_complement(len(products)).to(products.device)
    return basis @ orthogonal_map(basis.T @ products @ basis) @ basis.T + 1 / len(basis)


def product_gains(reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Return the inner products (heads, heads) of two networks' products Sᵀ T of factors S, T (heads, units, rest).

    For queries and keys Sᵀ T = QᵀK, for values and outputs OV. They do not change when S is mapped by X and T by X⁻ᵀ. The
    products are not formed: ⟨S₁ᵀT₁, S₂ᵀT₂⟩ = ⟨S₁S₂ᵀ, T₁T₂ᵀ⟩.
    """
    first = torch.einsum("iar,jbr->ijab", reference[0], other[0])
    second = torch.einsum("iar,jbr->ijab", reference[1], other[1])
    return (first * second).sum((2, 3))


def balanced_factors(direct: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of the products Sᵀ T with S Sᵀ = T Tᵀ that are closest to the given S and T (heads, units, rest).

    Balanced factors have the smallest norms of all factors of a product, and are unique up to orthogonal maps: aligned
    products have balanced factors that an orthogonal map aligns.
    """
    units = direct.shape[1]
    direct_basis, direct_triangle = torch.linalg.qr(direct.mT)
    inverse_basis, inverse_triangle = torch.linalg.qr(inverse.mT)
    left, values, right = torch.linalg.svd(direct_triangle @ inverse_triangle.mT, full_matrices=False)
    roots = values.sqrt()[:, None, :]
    new_direct = (direct_basis @ left * roots).mT
    new_inverse = (inverse_basis @ right.mT * roots).mT
    missing = units - new_direct.shape[1]
    if missing:  # fewer inputs than units
        new_direct = torch.nn.functional.pad(new_direct, (0, 0, 0, missing))
        new_inverse = torch.nn.functional.pad(new_inverse, (0, 0, 0, missing))
    rotation = orthogonal_map(gram(direct, new_direct) + gram(inverse, new_inverse))
    return rotation @ new_direct, rotation @ new_inverse


def factor_distance(reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Return ‖S₁ - S₂‖² + ‖T₁ - T₂‖² per head; factors (heads, units, rest)."""
    return (reference[0] - other[0]).square().sum((1, 2)) + (reference[1] - other[1]).square().sum((1, 2))


def orthogonal_factor_maps(reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Return the orthogonal maps X (heads, units, units) that minimize ‖S₁ - X S₂‖² + ‖T₁ - X T₂‖²."""
    return orthogonal_map(gram(reference[0], other[0]) + gram(reference[1], other[1]))


def invertible_factor_maps(reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor], start: Tensor) -> Tensor:
    """Return invertible maps X (heads, units, units) with ‖S₁ - X S₂‖² + ‖T₁ - X⁻ᵀ T₂‖² at most that of the given ones.

    Gauss-Newton from the given maps: a step exp(D) X changes the factors by D S and -Dᵀ T to first order, so the best D solves
    a Sylvester equation. A step that does not lower a head's distance is halved. Products Sᵀ T do not change.
    """
    maps = start
    moved = mapped_factors(other, maps)
    distance = factor_distance(reference, moved)
    for _ in range(REFINEMENT_STEPS):
        step = _sylvester_step(reference, moved)
        falls = torch.zeros_like(distance)
        for _ in range(HALVINGS):
            trial_maps = torch.matrix_exp(step) @ maps
            trial = mapped_factors(other, trial_maps)
            falls = (distance - factor_distance(reference, trial)).nan_to_num(nan=-1.0)
            if bool((falls >= 0).all()):
                break
            step = torch.where((falls < 0)[:, None, None], step / 2, step)
        better = (falls > 0)[:, None, None]
        maps = torch.where(better, trial_maps, maps)
        moved = mapped_factors(other, maps)
        distance = factor_distance(reference, moved)
        if bool((falls <= REFINEMENT_PROGRESS * distance).all()):
            break
    return maps


def _sylvester_step(reference: tuple[Tensor, Tensor], moved: tuple[Tensor, Tensor]) -> Tensor:
    """Return the D (heads, units, units) that minimizes ‖S₁ - S - D S‖² + ‖T₁ - T + Dᵀ T‖².

    It solves D SSᵀ + TTᵀ D = (S₁ - S) Sᵀ - T (T₁ - T)ᵀ. It is shortened to norm 1, since nearly
    singular factors have huge steps.
    """
    direct, inverse = moved
    right = gram(reference[0] - direct, direct) - gram(inverse, reference[1] - inverse)
    direct_values, direct_vectors = torch.linalg.eigh(gram(direct, direct))
    inverse_values, inverse_vectors = torch.linalg.eigh(gram(inverse, inverse))
    sums = inverse_values[:, :, None] + direct_values[:, None, :]
    floor = RANK_TOLERANCE * sums.amax((1, 2), keepdim=True)
    solution = inverse_vectors.mT @ right @ direct_vectors / sums.clamp_min(floor.clamp_min(1e-300))
    step = inverse_vectors @ solution @ direct_vectors.mT
    return step / torch.linalg.matrix_norm(step).clamp_min(1)[:, None, None]


def mapped_factors(factors: tuple[Tensor, Tensor], maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return X S and X⁻ᵀ T for maps X (heads, units, units)."""
    return maps @ factors[0], torch.linalg.inv(maps).mT @ factors[1]
