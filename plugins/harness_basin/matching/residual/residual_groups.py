"""The groups of a network with a residual stream, arranged for weight matching: streams, units, heads, factors of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from harness_basin.matching.linear.linear_groups import LinearGroup, Normalization
from harness_basin.matching.residual.moves import HeadFactors, Heads, Site
from harness_basin.matching.symmetry import Block, Symmetry, block_axes


@dataclass(frozen=True)
class Stream:
    """A residual stream: the sites that an orthogonal map moves, and the normalizations between its writers and readers.

    `fixes_ones`: the map has to keep the vector of ones, because LayerNorm subtracts the mean.
    """

    sites: tuple[Site, ...]
    normalizations: tuple[Normalization, ...]
    fixes_ones: bool


@dataclass(frozen=True)
class ResidualGroups:
    """The groups of a residual network in normal form.

    `units` are the sites of exchangeable units without inner structure. `counted` are the blocks whose distance is minimized:
    those of parameters, without the normalizations of the streams, which are equal in all networks. `unused` says of orthogonal
    groups that were derived why they are not among the streams; their units are permuted, or stay.
    """

    symmetry: Symmetry
    streams: tuple[Stream, ...]
    units: tuple[tuple[Site, ...], ...]
    heads: tuple[Heads, ...]
    counted: frozenset[Block]
    unused: tuple[str, ...] = ()


def residual_groups(symmetry: Symmetry, linear: Sequence[LinearGroup]) -> ResidualGroups:
    """Arrange a network's permutation groups and its orthogonal and invertible groups."""
    streams = []
    factors_by_outer: dict[int | None, list[HeadFactors]] = {}
    covered: set[int] = set()
    unused = []
    for group in linear:
        problem = _obstacle(symmetry, group)
        if problem:
            unused.append(f"{group.name}: {problem}")
        elif group.kind == "orthogonal":
            sites = tuple(Site(place.block, place.axis) for place in group.places)
            streams.append(Stream(sites, group.normalizations, group.fixes_ones))
            covered.add(group.index)
        elif group.kind == "invertible" and len(group.within) < 2:
            outer = group.within[0] if group.within else None
            factors_by_outer.setdefault(outer, []).append(_head_factors(group))
            covered.add(group.index)
    units, heads = _permuted(symmetry, covered, factors_by_outer)
    return ResidualGroups(symmetry, tuple(streams), units, heads, _counted(symmetry, streams), tuple(unused))


def _permuted(
    symmetry: Symmetry, covered: set[int], factors_by_outer: Mapping[int | None, Sequence[HeadFactors]]
) -> tuple[tuple[tuple[Site, ...], ...], tuple[Heads, ...]]:
    """Return the units and the heads: the permutation groups without a matrix group, apart from those within others."""
    units = []
    heads = [Heads((), (factors,)) for factors in factors_by_outer.get(None, [])]
    outer_groups = {outer for group in symmetry.groups for outer in group.within}
    for number, group in enumerate(symmetry.groups):
        if group.within or number in covered:
            continue
        sites = _sites(symmetry, number)
        if number in outer_groups or number in factors_by_outer:
            heads.append(_heads(sites, factors_by_outer.get(number, [])))
        else:
            units.append(sites)
    return tuple(units), tuple(heads)


def _obstacle(symmetry: Symmetry, group: LinearGroup) -> str:
    """Return why an orthogonal group cannot be used as a stream; empty if it can."""
    if group.kind != "orthogonal":
        return ""
    if group.within:
        return "it is within heads"
    for normalization in group.normalizations:
        if prod(symmetry.shapes[normalization.scale]) != group.size:
            return f"'{normalization.scale}' scales several copies of the stream at once"
        for reader in normalization.readers:
            if len(reader.place.block.factors) < 2:
                return f"'{normalization.scale}' cannot be moved into '{reader.place.block.parameter}', which is no linear map"
    return ""


def _heads(sites: tuple[Site, ...], factors: Sequence[HeadFactors]) -> Heads:
    mapped: set[Block] = set()
    for pair in factors:
        mapped.update(site.block for site in (*pair.direct, *pair.inverse))
    return Heads(sites, tuple(factors), tuple(site for site in sites if site.block not in mapped))


def _head_factors(group: LinearGroup) -> HeadFactors:
    direct = []
    inverse = []
    for place in group.places:
        outer = block_axes(place.block, group.within)
        site = Site(place.block, place.axis, outer[0] if outer else None)
        if place.action == "direct":
            direct.append(site)
        else:
            inverse.append(site)
    return HeadFactors(tuple(direct), tuple(inverse))


def _sites(symmetry: Symmetry, number: int) -> tuple[Site, ...]:
    """Return the sites of a permutation group."""
    found = []
    for block in symmetry.blocks:
        for axis, group in enumerate(block.groups):
            if group == number:
                found.append(Site(block, axis))
    return tuple(found)


def _counted(symmetry: Symmetry, streams: Sequence[Stream]) -> frozenset[Block]:
    normalized: set[str | None] = set()
    for stream in streams:
        for normalization in stream.normalizations:
            normalized |= {normalization.scale, normalization.shift}
    return frozenset(block for block in symmetry.blocks if block.counts and block.parameter not in normalized)
