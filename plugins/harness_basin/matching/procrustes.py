"""Closed-form alignment of matrices: orthogonal maps of a residual stream, and maps within attention heads.

Weights are matrices (units, rest), or (heads, units, rest) within heads. A map X moves the units of the second network: X B.
This module knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

RANK_TOLERANCE = 1e-9
"""Singular values below this share of the largest one count as zero."""

REFINEMENT_STEPS = 100
"""The largest number of iterations of the refinement of invertible maps."""


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


def centered_basis(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return an orthonormal basis (size, size - 1) of the vectors whose sum is zero (Helmert's)."""
    basis = torch.zeros(size, size - 1, dtype=dtype)
    for column in range(size - 1):
        basis[: column + 1, column] = 1
        basis[column + 1, column] = -(column + 1)
    return basis / basis.norm(dim=0)


def stream_map(products: Tensor) -> Tensor:
    """Return the orthogonal matrix R with R 1 = 1 that maximizes ⟨G, R⟩; G (n, n).

    LayerNorm commutes with these maps alone: it subtracts the mean of the residual stream. They are O(n - 1) on the vectors
    whose sum is zero.
    """
    basis = centered_basis(len(products), products.dtype)
    return _fixing_ones(orthogonal_map(basis.T @ products @ basis), basis)


def random_stream_map(size: int, generator: torch.Generator) -> Tensor:
    """Return a random orthogonal matrix (size, size) in float64 that fixes the vector of ones."""
    basis = centered_basis(size)
    normal = torch.randn(size - 1, size - 1, generator=generator, dtype=torch.float64)
    return _fixing_ones(orthogonal_map(normal), basis)


def _fixing_ones(rotation: Tensor, basis: Tensor) -> Tensor:
    return basis @ rotation @ basis.T + 1 / len(basis)


def product_gains(reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """Return the inner products (heads, heads) of two networks' products Sᵀ T of factors S, T (heads, units, rest).

    For queries and keys Sᵀ T = QᵀK, for values and outputs OV. They do not change when S is mapped by X and T by X⁻ᵀ. The
    products are not formed: ⟨S₁ᵀT₁, S₂ᵀT₂⟩ = ⟨S₁S₂ᵀ, T₁T₂ᵀ⟩.
    """
    first = torch.einsum("iar,jbr->ijab", reference[0], other[0])
    second = torch.einsum("iar,jbr->ijab", reference[1], other[1])
    return (first * second).sum((2, 3))


def balanced_maps(direct: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
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
    """Return invertible maps X (heads, units, units) with a smaller ‖S₁ - X S₂‖² + ‖T₁ - X⁻ᵀ T₂‖² than the given ones.

    The descent is quasi-Newton (L-BFGS) from the given maps. A head whose distance does not fall keeps its map. Products Sᵀ T
    do not change.
    """
    maps = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [maps],
        max_iter=REFINEMENT_STEPS,
        tolerance_grad=1e-12,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def distance() -> Tensor:
        optimizer.zero_grad()
        total = factor_distance(reference, mapped_factors(other, maps)).sum()
        total.backward()
        return total

    try:
        optimizer.step(distance)
    except torch.linalg.LinAlgError:  # a trial step met a singular map
        return start
    found = maps.detach()
    before = factor_distance(reference, mapped_factors(other, start))
    after = factor_distance(reference, mapped_factors(other, found))
    return torch.where((after < before)[:, None, None], found, start)


def mapped_factors(factors: tuple[Tensor, Tensor], maps: Tensor) -> tuple[Tensor, Tensor]:
    """Return X S and X⁻ᵀ T for maps X (heads, units, units)."""
    return maps @ factors[0], torch.linalg.inv(maps).mT @ factors[1]
