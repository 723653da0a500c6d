"""Several comparisons at once: Holm's correction, and letters for groups that cannot be told apart."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence

import numpy as np


def holm(p_values: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return p-values adjusted for the family of all of them, float64 (comparisons,).

    Rejecting those below α makes a false rejection with a probability of at most α, whatever the dependence. Source: Holm, A
    simple sequentially rejective multiple test procedure (1979).
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = given.argsort(kind="stable")
    factors = len(given) - np.arange(len(given))
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * given[order]), 1.0)
    return adjusted


def compact_letters(count: int, different: Collection[tuple[int, int]]) -> list[str]:
    """Return the letters of items 0, …, count − 1: two items share a letter exactly if they are not in `different`.

    `different` holds pairs of indices. List the best item first: letters are given in the order of the items. Source: the
    insert-and-absorb algorithm of Piepho, An algorithm for a letter-based representation of all-pairwise comparisons (2004).
    """
    groups = [frozenset(range(count))]
    for first, second in different:
        inserted = []
        for group in groups:
            if first in group and second in group:
                inserted += [group - {first}, group - {second}]
            else:
                inserted.append(group)
        groups = _absorbed(inserted)
    letters = [""] * count
    for number, group in enumerate(sorted(groups, key=sorted)):
        for item in group:
            letters[item] += letter(number)
    return letters


def letter(number: int) -> str:
    """Return a, b, …, z, then (aa), (ab), …, (az), (ba), …"""
    alphabet = string.ascii_lowercase
    if number < len(alphabet):
        return alphabet[number]
    text = ""
    rest = number
    while rest >= 0:
        text = alphabet[rest % len(alphabet)] + text
        rest = rest // len(alphabet) - 1
    return f"({text})"


def _absorbed(groups: Collection[frozenset[int]]) -> list[frozenset[int]]:
    """Return the groups that are no proper part of another, each once."""
    kept = []
    for group in dict.fromkeys(groups):
        if not any(group < other for other in groups):
            kept.append(group)
    return kept
