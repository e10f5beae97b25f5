"""Splits keep their fractions in every stratum and depend on content and seed alone."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from trainer.data.splits import age_strata, assign_parts, shuffle_key, split_names


CONTENTS = [f"picture {i}" for i in range(1237)]
STRATA = [(i * i % 9, i % 2) for i in range(1237)]


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ((0, 0), 0),
        ((2, 2), 0),
        ((3, 3), 1),
        ((69, 69), 7),
        ((70, 70), 8),
        ((20, 29), 3),  # a range counts where its middle lies
        ((-100, -100), -1),
    ],
)
def test_age_strata(ages, expected):
    assert age_strata(pd.DataFrame([ages], columns=["age_low", "age_high"])).tolist() == [expected]


@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.2,) * 5, (1 / 3,) * 3])
def test_every_part_gets_its_fraction_of_each_stratum(fractions):
    parts = assign_parts(CONTENTS, STRATA, fractions, seed=0)
    for cell, size in Counter(STRATA).items():
        inside = np.bincount([parts[i] for i in range(len(parts)) if STRATA[i] == cell], minlength=len(fractions))
        assert np.abs(inside - size * np.array(fractions)).max() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_a_part_gets_its_fraction_of_many_small_strata(seed):
    strata = [(i // 2, 0) for i in range(len(CONTENTS))]  # of two items each: no tenth of a stratum is an item
    sizes = np.bincount(assign_parts(CONTENTS, strata, (0.8, 0.1, 0.1), seed)) / len(CONTENTS)
    assert sizes == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_a_few_items_more_move_few_others():
    before = split_names(CONTENTS, STRATA, seed=0)
    after = split_names([*CONTENTS, "new 1", "new 2"], [*STRATA, (0, 0), (4, 1)], seed=0)
    assert sum(a != b for a, b in zip(before, after, strict=False)) <= 4


def test_order_of_the_items_does_not_matter():
    order = np.random.default_rng(0).permutation(len(CONTENTS))
    shuffled = split_names([CONTENTS[i] for i in order], [STRATA[i] for i in order], seed=3)
    straight = split_names(CONTENTS, STRATA, seed=3)
    assert shuffled == [straight[i] for i in order]


def test_seeds_give_other_splits():
    first, second = (np.array(split_names(CONTENTS, STRATA, seed=seed)) for seed in (0, 1))
    both = ((first == "test") & (second == "test")).sum()
    assert both < 0.25 * (first == "test").sum()  # a tenth by chance


def test_each_item_is_in_the_test_split_of_one_fold():
    folds = np.array([split_names(CONTENTS, STRATA, seed=0, folds=5, fold=fold) for fold in range(5)])
    assert ((folds == "test").sum(axis=0) == 1).all()
    for names in folds:
        assert np.mean(names == "test") == pytest.approx(0.2, abs=0.02)
        assert np.mean(names == "validation") == pytest.approx(0.1, abs=0.02)
        assert np.mean(names == "train") == pytest.approx(0.7, abs=0.02)


def test_splits_are_the_same_for_every_version_of_everything():
    """These values are published with every prepared set: whoever changes them changes all its splits."""
    assert shuffle_key("a", 0) == "9df3c5fab8ef8fe78a408912e52e76477b5bd838eec3cbf48191a848ec8563d3"
    splits = split_names([f"picture {i}" for i in range(20)], [(i % 2, i % 3) for i in range(20)], seed=0)
    assert [i for i in range(20) if splits[i] == "test"] == [2, 5, 18, 19]
    assert [i for i in range(20) if splits[i] == "validation"] == [10]
