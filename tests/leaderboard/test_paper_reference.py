"""The paper's numbers in `benchmarks/reference/paper.csv`."""

from __future__ import annotations

import pytest

from harness.leaderboard import compare, read_reference
from leaderboard.rows_and_boards import PAPER, board_of, row

TARGETS = """
cifar10       ensemble_accuracy   94.43 .12  94.17 .05  94.0 .18   94.43 .12    94.46 .20  94.45 .02
cifar10       joint_connectivity -71.74 2.38 -0.10 .10  1.48 .04  -25.84 4.20   -0.64 .11 -71.30 3.01
cifar100      ensemble_accuracy   78.15 .10  75.92 .20  74.95 .49  78.15 .10    77.56 .18  78.42 .20
cifar100      joint_connectivity -68.16 1.72  0.86 .18  3.30 .10  -44.89 .91     0.39 .11 -69.03 2.19
tiny_imagenet ensemble_accuracy   62.85 .12  59.83 .13  58.36 .6   62.85 .12    62.61 .43  63.29 .33
tiny_imagenet joint_connectivity -53.78 .85   0.75 .10  2.80 .14  -46.30 2.08   -1.35 .48 -56.54 .70
"""
"""ResNet20, M = 5, mean and ± over 3 seeds, the errata resolved; methods in the order of the paper's table 1."""
METHODS = ("deep", "constrained", "swe", "permuted", "distilled", "distilled_deep")


@pytest.fixture(scope="module")
def paper():
    """The reference file of the project."""
    return read_reference(PAPER)


def test_numbers_of_the_three_tables(paper):
    """The file holds 36 numbers per table and 84 quantities, each in use exactly once, all over three seeds."""
    assert {table: sum(p.table == table for p in paper) for table in "124"} == {"1": 36, "2": 36, "4": 36}
    assert len(paper) == 108
    used = [(p.dataset, p.architecture, p.method, p.metric) for p in paper if p.use]
    every = {(p.dataset, p.architecture, p.method, p.metric) for p in paper}
    assert len(used) == len(set(used)) == 84
    assert set(used) == every
    assert {p.n for p in paper} == {3}
    assert {p.source for p in paper} == {"Lion et al. 2024 (arXiv 2402.03187)"}
    assert {p.metric for p in paper} == {"ensemble_accuracy", "joint_connectivity", "mean_member_accuracy"}
    assert {p.architecture for p in paper} == {"resnet20", "vit"}


def test_numbers_in_use_for_resnet20(paper):
    """They are the targets of the reproduction, digit by digit."""
    used = {(p.dataset, p.metric, p.method): (p.value, p.spread) for p in paper if p.use and p.architecture == "resnet20"}
    for line in TARGETS.strip().split("\n"):
        dataset, metric, *numbers = line.split()
        for method, value, spread in zip(METHODS, numbers[::2], numbers[1::2]):
            assert used[dataset, metric, method] == (float(value), float(spread)), (dataset, metric, method)


def test_mean_member_accuracy_and_vit(paper):
    """Samples from the corners of tables 2 and 4 match the paper."""
    used = {(p.table, p.dataset, p.architecture, p.method, p.metric): (p.value, p.spread) for p in paper if p.use}
    assert used["2", "cifar10", "resnet20", "constrained", "mean_member_accuracy"] == (93.15, 0.03)
    assert used["2", "tiny_imagenet", "vit", "distilled", "ensemble_accuracy"] == (42.31, 0.09)
    assert used["4", "cifar10", "resnet20", "deep", "mean_member_accuracy"] == (93.01, 0.08)
    assert used["4", "cifar10", "vit", "distilled_deep", "joint_connectivity"] == (-55.7, 1.71)
    assert used["4", "tiny_imagenet", "vit", "distilled_deep", "ensemble_accuracy"] == (44.29, 0.21)


@pytest.mark.parametrize(
    ("place", "printed", "used"),
    [
        (("cifar10", "distilled_deep", "joint_connectivity"), {"1": (-55.7, 1.71), "4": (-71.3, 3.01)}, "4"),
        (("cifar100", "distilled_deep", "joint_connectivity"), {"1": (-48.32, 0.15), "4": (-69.03, 2.19)}, "4"),
        (("tiny_imagenet", "distilled_deep", "joint_connectivity"), {"1": (-35.79, 0.77), "4": (-56.54, 0.7)}, "4"),
        (("cifar10", "distilled", "joint_connectivity"), {"1": (-0.14, 0.07), "2": (-0.64, 0.11)}, "2"),
        (("cifar10", "constrained", "joint_connectivity"), {"1": (-0.1, 0.1), "2": (-0.14, 0.07)}, "1"),
        (("tiny_imagenet", "deep", "ensemble_accuracy"), {"1": (62.85, 0.12), "4": (62.85, 0.2)}, "1"),
        (("tiny_imagenet", "constrained", "ensemble_accuracy"), {"1": (59.8, 0.1), "2": (59.83, 0.13)}, "2"),
    ],
)
def test_quantities_on_which_the_tables_disagree(paper, place, printed, used):
    """The file lists both numbers with a note, and one of them is in use."""
    found = [p for p in paper if (p.dataset, p.method, p.metric) == place and p.architecture == "resnet20"]
    assert {p.table: (p.value, p.spread) for p in found} == printed
    assert [p.table for p in found if p.use] == [used]
    assert all(p.note for p in found)


def test_numbers_printed_in_two_tables(paper):
    """The repeated number is not in use and names the other table; no other number is unused."""
    unused = [p for p in paper if not p.use]
    assert len(unused) == 24
    places = {(p.dataset, p.architecture, p.method, p.metric): p for p in paper if p.use}
    for p in unused:
        other = places[p.dataset, p.architecture, p.method, p.metric]
        same = (p.value, p.spread) == (other.value, other.spread)
        assert same == (p.note == f"as in table {other.table}"), p


def test_errata(paper):
    """Six contradictions are marked, on two lines each."""
    assert sum(p.note.startswith("erratum: ") for p in paper) == 12


def test_board_of_the_published_numbers(paper):
    """Every verdict is `agrees`, and every published number in use has a counterpart."""
    rows = []
    for p in paper:
        for seed, shift in enumerate((-0.01, 0.01)):
            if p.use:
                rows.append(row(p.method, seed, p.value + shift, p.metric, dataset=p.dataset, architecture=p.architecture))
    compared = compare(board_of(rows), paper)
    verdicts = [c.verdict for table in compared.tables for c in table.comparisons]
    assert verdicts == ["agrees"] * 84
    assert compared.unmatched == 0
