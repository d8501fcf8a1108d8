"""Partitions: every sample belongs to exactly one node, every node has one, and the skew is what was asked for."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from healmpi.learning.partition import LEAST_ALPHA, PARTITIONS, Dirichlet, Iid, Partition, Shards, label_counts
from healmpi.settings import UsageError, field_names

KINDS = ("iid", "dirichlet", "shards")


def made(kind: str, **options: float) -> Partition:
    """A partition with those of the options that it has."""
    settings = PARTITIONS[kind].Settings
    return PARTITIONS[kind](settings(**{name: value for name, value in options.items() if name in field_names(settings)}))


def test_the_ways_to_partition_are_the_classes_by_name():
    assert {"iid": Iid, "dirichlet": Dirichlet, "shards": Shards} == PARTITIONS


def balanced_labels(samples: int, classes: int = 10) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.arange(samples, dtype=np.int64) % classes)


@st.composite
def cases(draw):
    nodes, shards_per_node = draw(st.integers(1, 30)), draw(st.integers(1, 4))
    samples = draw(st.integers(nodes * shards_per_node, 400))
    labels = np.array(draw(st.lists(st.integers(0, 6), min_size=samples, max_size=samples)), np.int64)
    alpha = draw(st.sampled_from((1e-300, 1e-3, 0.1, 1.0, 1e6)))
    way = made(draw(st.sampled_from(KINDS)), alpha=alpha, shards_per_node=shards_per_node)
    return labels, way, nodes, draw(st.integers(0, 2**63 - 1))


@settings(max_examples=150, deadline=None)
@given(cases())
def test_every_sample_has_one_node_and_every_node_a_sample(case):
    labels, way, nodes, seed = case
    parts = way.parts(labels, nodes, seed)
    assert len(parts) == nodes
    assert all(part.dtype == np.int64 and len(part) >= 1 for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    if way.name == "iid":
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=30, deadline=None)
@given(cases())
def test_the_same_arguments_give_the_same_parts(case):
    labels, way, nodes, seed = case
    before = labels.copy()
    for one, other in zip(way.parts(labels, nodes, seed), way.parts(labels, nodes, seed), strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(labels, before)


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_other_parts(kind):
    labels = balanced_labels(500)
    one, other = (made(kind).parts(labels, 10, seed) for seed in (1, 2))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_nodes_as_samples_leaves_one_each(kind):
    parts = made(kind, alpha=0.01, shards_per_node=1).parts(balanced_labels(40), 40, 3)
    assert [len(part) for part in parts] == [1] * 40


def test_with_the_least_alpha_each_node_is_as_likely_to_get_a_label_and_a_smaller_one_is_refused():
    labels = np.arange(4000, dtype=np.int64)  # a label a sample: each is dealt by a draw of its own
    sizes = [len(part) for part in made("dirichlet", alpha=LEAST_ALPHA).parts(labels, 10, 1)]
    assert max(abs(size - 400) for size in sizes) < 5 * math.sqrt(400), sizes
    for alpha in (5e-324, 2e-307, 0.0, 1e7):
        with pytest.raises(UsageError, match=r"data\.alpha = .*at least 1e-300 and at most 1000000"):
            made("dirichlet", alpha=alpha)


def test_small_alpha_is_skewed_and_large_alpha_is_even():
    labels = balanced_labels(20_000)

    def largest_share(alpha: float) -> float:
        parts = made("dirichlet", alpha=alpha).parts(labels, 20, 1)
        counts = label_counts(labels, parts, 10)
        return float(np.mean(counts.max(axis=1) / counts.sum(axis=1)))

    skewed, middle, even = largest_share(0.05), largest_share(1.0), largest_share(1e5)
    assert skewed > 0.6 > middle > 0.2 > even, (skewed, middle, even)
    assert even == pytest.approx(0.1, abs=0.01)


def test_two_shards_of_balanced_labels_hold_at_most_two_labels_mcmahan_section_3():
    labels = balanced_labels(6000)
    counts = label_counts(labels, made("shards").parts(labels, 100, 1), 10)
    assert np.all((counts > 0).sum(axis=1) <= 2)
    assert np.all(counts.sum(axis=1) == 60)
    assert len({tuple(row > 0) for row in counts}) > 20, "shards are dealt at random"


def test_label_counts_of_a_small_example():
    labels = np.array([0, 1, 1, 2], np.int64)
    counts = label_counts(labels, (np.array([0, 1]), np.array([2, 3]), np.array([], np.int64)), 4)
    assert counts.dtype == np.int64
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_samples_than_nodes_names_the_field(kind):
    with pytest.raises(UsageError, match=r"run\.nodes = 11 .*10"):
        made(kind).parts(balanced_labels(10), 11, 1)


def test_fewer_samples_than_shards_names_the_field_and_the_limit():
    with pytest.raises(UsageError, match=r"data\.shards_per_node = 4 .*at most 3"):
        made("shards", shards_per_node=4).parts(balanced_labels(30), 10, 1)
