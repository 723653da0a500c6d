"""Says which ensembles are degenerate: one member, members that are one network, members at chance. numpy only.

A metric of such an ensemble may look excellent (networks that are equal are perfectly connected) and mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ONE_MEMBER = "the ensemble has one member"

_ROUNDING = 1e-5  # relative; float32 logits of one network, computed on another device or with permuted units, differ by less
_CONSTANT = 1e-3  # relative; outputs that vary less than this over all images do not depend on the image
_STANDARD_ERRORS = 3
_FEWEST = 10  # expected images outside the most frequent class; below, a test set is too small to tell chance from skill


def ensemble_warnings(logits: np.ndarray, labels: np.ndarray) -> tuple[str, ...]:
    """Return what makes an ensemble degenerate, one sentence per reason; nothing for a sound one.

    `logits` is (members, examples, classes) and `labels` (examples,).
    """
    members = len(logits)
    if members == 1:
        return tuple(filter(None, (ONE_MEMBER, _chance_warning(_at_chance(logits, labels), 1))))
    copies = copies_warning(_count_distinct(logits), members)
    return tuple(filter(None, (copies, _chance_warning(_at_chance(logits, labels), members))))


def planned_warnings(member_keys: Sequence[str]) -> tuple[str, ...]:
    """Return what is degenerate about an ensemble by the keys of its members alone, before anything is measured."""
    if len(member_keys) == 1:
        return (ONE_MEMBER,)
    return tuple(filter(None, (copies_warning(len(set(member_keys)), len(member_keys)),)))


def copies_warning(distinct: int, members: int) -> str:
    """Say that some members are copies of others; nothing if all are distinct."""
    if distinct == members:
        return ""
    if distinct == 1:
        return f"all {members} members make the same predictions: they are one network"
    return f"only {distinct} of {members} members are different networks: the others make the same predictions as one of these"


def _chance_warning(at_chance: int, members: int) -> str:
    if not at_chance:
        return ""
    who = f"{at_chance} of {members} members {'is' if at_chance == 1 else 'are'}"
    if at_chance == members:
        who = "its one member is" if members == 1 else f"all {members} members are"
    return f"{who} at chance: no better than one constant answer"


def _count_distinct(logits: np.ndarray) -> int:
    """Return how many members make predictions that no member before them makes."""
    distinct: list[np.ndarray] = []
    for member in logits:
        if not any(_same_predictions(member, other) for other in distinct):
            distinct.append(member)
    return len(distinct)


def _same_predictions(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two members' logits (examples, classes) are equal up to rounding, relative to each example's largest."""
    return _equal_rows(first[:1], second[:1]) and _equal_rows(first, second)  # the first example tells most pairs apart


def _equal_rows(first: np.ndarray, second: np.ndarray) -> bool:
    scale = np.maximum(np.abs(first), np.abs(second)).max(axis=1, keepdims=True, initial=0.0)
    return bool(np.all(np.abs(first - second) <= _ROUNDING * scale))


def _at_chance(logits: np.ndarray, labels: np.ndarray) -> int:
    """Return how many members answer no better than a constant would."""
    if not len(labels):
        return 0
    share = np.bincount(labels).max() / len(labels)
    accuracies = (logits.argmax(axis=2) == labels).mean(axis=1)
    limit = _accuracy_at_chance(share, len(labels))
    return sum(accuracy <= limit or _is_constant(member) for accuracy, member in zip(accuracies, logits, strict=True))


def _accuracy_at_chance(share: float, examples: int) -> float:
    """Return the accuracy up to which a member counts as being at chance; negative where the test set is too small to tell.

    `share` is that of the most frequent class: the accuracy of the best constant answer. A member must exceed it by three
    binomial standard errors, but by no more than half of what a perfect member does.
    """
    if examples * (1 - share) < _FEWEST:
        return -1.0
    error = (share * (1 - share) / examples) ** 0.5
    return min(share + _STANDARD_ERRORS * error, (1 + share) / 2)


def _is_constant(member: np.ndarray) -> bool:
    """Say whether logits (examples, classes) hardly depend on the example, and give one class for all of them."""
    if len(member) < 2 or np.ptp(member.argmax(axis=1)):
        return False
    return bool(np.ptp(member, axis=0).max() <= _CONSTANT * np.abs(member).max())
