"""Named random streams: equal to SplitMix64, statistically uniform, independent of global generators."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare

from harness import streams

MASK = (1 << 64) - 1
PUBLISHED = [  # the first outputs for seed 1234567 (Rosetta Code, "Pseudo-random numbers/Splitmix64")
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def splitmix64(seed, n):
    """Return n outputs of the published generator, which increments its state, then mixes it (Steele et al. 2014, fig. 16)."""
    outputs = []
    for _ in range(n):
        seed = (seed + 0x9E3779B97F4A7C15) & MASK
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        outputs.append(z ^ (z >> 31))
    return outputs


def unsigned(bits):
    """Return torch's signed integers as unsigned ones."""
    return [value & MASK for value in bits.flatten().tolist()]


def test_reference_gives_the_published_outputs():
    """The reference of the other tests is the published generator."""
    assert splitmix64(1234567, 5) == PUBLISHED


def test_published_outputs():
    """Counter i has the i-th output, counted from 1, since the generator increments its state before the first output."""
    assert unsigned(streams.bits(1234567, torch.arange(1, 6))) == PUBLISHED


@given(key=st.integers(0, MASK), start=st.integers(0, 1000))
def test_all_keys_and_counters(key, start):
    """Numbers equal SplitMix64's for every key, also above 2⁶³, where torch's integers are negative."""
    before = (key - 0x9E3779B97F4A7C15) & MASK  # the state whose first output is counter 0
    assert unsigned(streams.bits(key, torch.arange(start, start + 3))) == splitmix64(before, start + 3)[start:]


@given(key=st.integers(0, MASK), rows=st.integers(1, 5), columns=st.integers(1, 40))
def test_shape_and_grouping(key, rows, columns):
    """A number depends on its counter alone, not on the shape, the strides or the other counters."""
    counters = torch.arange(rows * columns)
    flat = streams.bits(key, counters)
    assert torch.equal(streams.bits(key, counters.view(rows, columns)).flatten(), flat)
    assert torch.equal(streams.bits(key, counters.view(rows, columns).T), flat.view(rows, columns).T)
    assert torch.equal(torch.cat([streams.bits(key, counter) for counter in counters.split(7)]), flat)
    assert torch.equal(streams.bits(key, counters.flip(0)), flat.flip(0))


def test_tensor_of_keys():
    """Keys (members, 1) against counters (batch,) give each member's own stream."""
    keys = [streams.key("member", j) for j in range(4)]
    column = torch.tensor([streams.signed(key) for key in keys]).view(4, 1)
    together = streams.uniform(column, torch.arange(10))
    assert together.shape == (4, 10)
    for key, row in zip(keys, together):
        assert torch.equal(streams.uniform(key, torch.arange(10)), row)


def test_uniform_numbers_are_the_top_bits():
    """They are float32 and have the 24 highest bits exactly."""
    key = streams.key("top")
    numbers = streams.uniform(key, torch.arange(1, 101))
    assert numbers.dtype == torch.float32
    assert numbers.tolist() == [(value >> 40) / 2**24 for value in splitmix64(key, 100)]


def test_uniform_numbers_are_uniform():
    """A million numbers are in [0, 1), uniform, and independent of their successors."""
    numbers = streams.uniform(streams.key("uniform"), torch.arange(1_000_000))
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert chisquare(torch.histc(numbers, 1000, 0, 1)).pvalue > 0.001
    pairs = (numbers * 32).long().view(-1, 2)
    assert chisquare(torch.bincount(pairs[:, 0] * 32 + pairs[:, 1], minlength=1024)).pvalue > 0.001


def test_every_bit_is_fair():
    """Each of the 64 bits is set in half of the numbers."""
    bits = streams.bits(streams.key("bits"), torch.arange(100_000))
    ones = torch.stack([(bits >> place) & 1 for place in range(64)]).double().mean(1)
    assert (ones - 0.5).abs().max() < 5 * 0.5 / 100_000**0.5


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("order", 0, "batches", 0), ("order", 0, "batches", 1)),
        (("order", 0, "batches", 0), ("order", 1, "batches", 0)),
        (("order", 0, "batches", 0), ("order", 0, "augmentation", 0)),
        (("init", 3), ("init", "3")),
    ],
)
def test_neighboring_names_are_independent(one, other):
    """Numbers of streams whose names differ in one part are independent, in a 16 × 16 table."""
    counters = torch.arange(100_000)
    first, second = (streams.uniform(streams.key(*name), counters).mul(16).long() for name in (one, other))
    table = torch.bincount(first * 16 + second, minlength=256).view(16, 16)
    assert chi2_contingency(table).pvalue > 0.001
    assert chisquare(table.flatten()).pvalue > 0.001


def test_first_numbers_of_neighboring_names():
    """The first numbers of successive names are uniform and independent."""
    counter = torch.zeros(1, dtype=torch.int64)
    firsts = [float(streams.uniform(streams.key("seed", i), counter)) for i in range(4000)]
    pairs = (torch.tensor(firsts) * 8).long().view(-1, 2)
    assert chisquare(torch.bincount(pairs[:, 0] * 8 + pairs[:, 1], minlength=64)).pvalue > 0.001


def test_key_is_the_hash_of_the_name():
    """Keys never change, since stored results depend on them."""
    assert streams.key("order", 7) == int.from_bytes(hashlib.sha256(b'["order",7]').digest()[:8], "big")
    assert streams.key("order", 7) == 5590186617590119142


def test_different_names_have_different_keys():
    """The boundaries and the types of the parts count."""
    names = [("ab",), ("a", "b"), ("a", "b", ""), ('a","b',), ("a", 1), ("a", "1"), ("a1",), ("a", 11), ("a", 1, 1), ()]
    assert len({streams.key(*name) for name in names}) == len(names)


@given(value=st.integers(-(1 << 63), MASK))
def test_signed(value):
    """The result has the same 64 bits, in the range of torch's integers."""
    assert -(1 << 63) <= streams.signed(value) < 1 << 63
    assert (streams.signed(value) - value) % (1 << 64) == 0


@pytest.mark.parametrize("n", [0, 1, 2, 5, 1000])
def test_permutation_is_a_permutation(n):
    """It has every number below n once."""
    order = streams.permutation(streams.key("order"), n)
    assert order.dtype == torch.int64
    assert sorted(order.tolist()) == list(range(n))


def test_permutations_are_equally_likely():
    """The 24 permutations of four numbers are equally frequent over many keys."""
    orders = [tuple(streams.permutation(streams.key("shuffle", i), 4).tolist()) for i in range(2400)]
    counts = np.unique(np.array(orders), axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert chisquare(counts).pvalue > 0.001


def test_permutations_of_different_streams():
    """They are different; those of the same stream are equal."""
    one = streams.permutation(streams.key("epoch", 1), 100)
    other = streams.permutation(streams.key("epoch", 2), 100)
    assert not torch.equal(one, other)
    assert torch.equal(one, streams.permutation(streams.key("epoch", 1), 100))


def test_seeded_restores_the_global_generator():
    """After the block the generator has its earlier state; within it the stream seeds it, also in nested blocks."""
    before = torch.random.get_rng_state()
    with streams.seeded(streams.key("a")):
        first = torch.rand(5)
        with streams.seeded(streams.key("b")):
            other = torch.rand(5)
        after_inner = torch.rand(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    with streams.seeded(streams.key("a")):
        assert torch.equal(torch.rand(5), first)
        assert torch.equal(torch.rand(5), after_inner)
    assert not torch.equal(first, other)


def test_error_in_a_seeded_block():
    """The global generator is restored if the block raises."""
    before = torch.random.get_rng_state()

    def fail():
        with streams.seeded(streams.key("a")):
            torch.rand(5)
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_global_generators_are_not_used():
    """Keys, numbers and permutations do not change the global generators, and do not depend on them."""
    torch_before = torch.random.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()
    key = streams.key("pure")
    numbers = streams.uniform(key, torch.arange(50))
    order = streams.permutation(key, 50)
    assert torch.equal(torch.random.get_rng_state(), torch_before)
    assert (np.random.get_state()[1] == numpy_before).all()
    with streams.seeded(99):
        assert torch.equal(streams.uniform(key, torch.arange(50)), numbers)
        assert torch.equal(streams.permutation(key, 50), order)
