"""Splits of uploads: every class on both sides, about a fifth held out, nothing lost, nothing twice, never another."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import InvalidInputError
from trainer_service.datasets.classes import check_both_splits, hold_out

LABELS = tuple("abcdef")


@given(st.lists(st.integers(0, 5), max_size=200))
@settings(max_examples=100, deadline=None)
def test_every_class_is_on_both_sides(found: list[int]) -> None:
    """Each row is in one split, and of each class a fifth is held out, but at least one."""
    class_ids = np.array([*range(6), *range(6), *found])
    train, test = hold_out(class_ids, LABELS)
    assert sorted([*train.tolist(), *test.tolist()]) == list(range(len(class_ids)))
    counts, held_out = np.bincount(class_ids), np.bincount(class_ids[test])
    assert held_out.tolist() == [max(1, count // 5) for count in counts.tolist()]


def test_the_split_is_drawn_at_random_and_never_changes() -> None:
    """Not the first or the last of each class, and the same rows today and tomorrow."""
    class_ids = np.repeat(np.arange(2), 10)
    _, test = hold_out(class_ids, LABELS[:2])
    assert test.tolist() == hold_out(class_ids, LABELS[:2])[1].tolist() == [4, 19, 6, 13]


@pytest.mark.parametrize(
    ("class_ids", "words"),
    [
        ([0, 0, 1], "the class 'b' has only one example"),
        ([0, 1, 2, 2], "the classes 'a', 'b' have each only one example"),
        ([0, 1, 2, 3, 4, 5], "the classes 'a', 'b', 'c', 'd', 'e' and 1 more have each only one example"),
    ],
)
def test_classes_that_cannot_be_on_both_sides_are_named(class_ids: list[int], words: str) -> None:
    """Some of them, and how many more."""
    with pytest.raises(InvalidInputError, match=words):
        hold_out(np.array(class_ids), LABELS[: max(class_ids) + 1])


def test_a_class_that_is_missing_in_a_split_of_ones_own_is_named() -> None:
    """With the split."""
    with pytest.raises(InvalidInputError, match="the class 'c' has no example in the test split"):
        check_both_splits(np.array([0, 1, 2]), np.array([0, 1]), LABELS[:3])
