"""Degenerate ensembles: one member, several copies of one network, or members at chance. Needs numpy only.

A metric of such an ensemble can look excellent and mean nothing: equal networks are perfectly connected.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

ONE_MEMBER = "the ensemble has one member"

_ROUNDING = 1e-5  # relative; float32 logits of one network differ less between devices and after a permutation of units
_CONSTANT = 1e-3  # relative; logits that vary less over all images do not depend on the image
_STANDARD_ERRORS = 3
_MIN_OTHER_IMAGES = 10  # images outside the most frequent class; with fewer, chance and skill are indistinguishable


def ensemble_warnings(logits: np.ndarray, labels: np.ndarray) -> tuple[str, ...]:
    """Return why an ensemble is degenerate, one sentence per reason; nothing for a sound one.

    `logits` has the shape (members, examples, classes) and `labels` (examples,).
    """
    members = len(logits)
    copies = ONE_MEMBER if members == 1 else copies_warning(_count_distinct(logits), members)
    chance = _chance_warning(_count_at_chance(logits, labels), members)
    return tuple(warning for warning in (copies, chance) if warning)


def planned_warnings(member_keys: Sequence[str]) -> tuple[str, ...]:
    """Return why an ensemble is degenerate according to the keys of its members, before anything is measured."""
    if len(member_keys) == 1:
        return (ONE_MEMBER,)
    copies = copies_warning(len(set(member_keys)), len(member_keys))
    return (copies,) if copies else ()


def copies_warning(distinct: int, members: int) -> str:
    """Return the warning about members that are copies of others; nothing if all members are distinct."""
    if distinct == members:
        return ""
    if distinct == 1:
        return f"all {members} members make the same predictions: they are one network"
    return f"only {distinct} of {members} members are different networks: the others make the same predictions as one of these"


def _chance_warning(at_chance: int, members: int) -> str:
    """Return the warning about members at chance; nothing if there are none."""
    if not at_chance:
        return ""
    verb = "is" if at_chance == 1 else "are"
    subject = f"{at_chance} of {members} members"
    if at_chance == members:
        subject = "its one member" if members == 1 else f"all {members} members"
    return f"{subject} {verb} at chance: no better than one constant answer"


def _count_distinct(logits: np.ndarray) -> int:
    """Return the number of members whose predictions differ from those of all earlier members."""
    distinct: list[np.ndarray] = []
    for member in logits:
        if not any(_same_predictions(member, other) for other in distinct):
            distinct.append(member)
    return len(distinct)


def _same_predictions(first: np.ndarray, second: np.ndarray) -> bool:
    """Return whether the logits (examples, classes) of two members are equal up to rounding.

    The tolerance is relative to the largest logit of each example.
    """
    return _equal_rows(first[:1], second[:1]) and _equal_rows(first, second)  # the first example distinguishes most pairs


def _equal_rows(first: np.ndarray, second: np.ndarray) -> bool:
    scale = np.maximum(np.abs(first), np.abs(second)).max(axis=1, keepdims=True, initial=0.0)
    return bool(np.all(np.abs(first - second) <= _ROUNDING * scale))


def _count_at_chance(logits: np.ndarray, labels: np.ndarray) -> int:
    """Return the number of members that are no better than a constant prediction."""
    if not len(labels):
        return 0
    share = np.bincount(labels).max() / len(labels)
    accuracies = (logits.argmax(axis=2) == labels).mean(axis=1)
    limit = _accuracy_at_chance(share, len(labels))
    return sum(accuracy <= limit or _is_constant(member) for accuracy, member in zip(accuracies, logits, strict=True))


def _accuracy_at_chance(share: float, examples: int) -> float:
    """Return the accuracy up to which a member is at chance; negative for a test set that is too small to tell.

    `share` is the share of the most frequent class, which is the accuracy of the best constant prediction. The limit lies
    three binomial standard errors above it, but at most halfway to an accuracy of 1.
    """
    if examples * (1 - share) < _MIN_OTHER_IMAGES:
        return -1.0
    error = (share * (1 - share) / examples) ** 0.5
    return min(share + _STANDARD_ERRORS * error, (1 + share) / 2)


def _is_constant(member: np.ndarray) -> bool:
    """Return whether logits (examples, classes) hardly depend on the example and predict one class for all of them."""
    if len(member) < 2 or np.ptp(member.argmax(axis=1)):
        return False
    return bool(np.ptp(member, axis=0).max() <= _CONSTANT * np.abs(member).max())
