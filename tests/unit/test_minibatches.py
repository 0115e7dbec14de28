"""Minibatches: every example once with its own target, and the same pictures ahead on a thread as without one."""

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.preprocessing import Preprocessing, Standardisation
from shared.recipe import Augmentation
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training.augmentation import Augmenter
from trainer_service.training.minibatches import Minibatches

BATCH = 16
MOVED = Augmentation(shift=1, rotation=15, elastic_strength=3)


def numbered(split: Split) -> Split:
    """Each example in a class of its own, its place in the split, so that a target tells whose it is."""
    return Split(split.examples, np.arange(len(split)))


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 50])
@pytest.mark.parametrize("augmented", [False, True])
def test_an_epoch_has_every_example_once_in_the_order_asked_for(
    make_dataset: Callable[..., Dataset],
    rows: int,
    augmented: bool,  # noqa: FBT001 - pytest hands it over by name
) -> None:
    """Full minibatches and a shorter last one; augmentation does not change which or how many."""
    dataset = make_dataset(rows)
    augmenter = Augmenter(Augmentation(shift=0.001), (2, 3), np.random.default_rng(0), BATCH) if augmented else None
    minibatches = Minibatches(numbered(dataset.train), rows, dataset.preprocessing, BATCH, augmenter=augmenter)
    for seed in (0, 1):
        order = np.random.default_rng(seed).permutation(rows)
        sizes, seen = [], []
        for minibatch in minibatches.epoch(order):
            sizes.append(len(minibatch))
            who = minibatch.targets.argmax(axis=1)
            np.testing.assert_allclose(minibatch.features, dataset.train.examples[who] / 255, rtol=1e-6)
            seen += who.tolist()
        assert seen == order.tolist()
        assert sizes == [BATCH] * (rows // BATCH) + [rows % BATCH] * (rows % BATCH > 0)
        assert len(sizes) == minibatches.steps


def test_the_thread_ahead_gives_what_would_come_without_it(digits: Dataset) -> None:
    """Picture for picture and bit for bit, over several epochs, while each minibatch stays as it is being used."""
    preprocessing = digits.preprocessing
    ahead = Augmenter(MOVED, preprocessing.input_shape, np.random.default_rng(7), BATCH)
    minibatches = Minibatches(numbered(digits.train), len(digits.train), preprocessing, BATCH, augmenter=ahead)
    plain = Augmenter(MOVED, preprocessing.input_shape, np.random.default_rng(7), BATCH)
    order = np.random.default_rng(0).permutation(len(digits.train))[:90]
    for _ in range(2):
        for number, minibatch in enumerate(minibatches.epoch(order)):
            part = order[number * BATCH : (number + 1) * BATCH]
            pictures = digits.train.examples[part].astype(np.uint8)
            changed = plain.apply(pictures, np.empty((len(part), 64), np.float32))
            expected = changed * np.float32(preprocessing.uint8_scale)
            for _ in range(3):  # the thread is at work on the next one meanwhile
                np.testing.assert_array_equal(minibatch.features, expected)
            np.testing.assert_array_equal(minibatch.targets.argmax(axis=1), part)
            np.testing.assert_equal(minibatch.augmentation, plain.state())  # not the thread's, which is further


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_an_epoch_goes_on_where_another_was_left(digits: Dataset, done: int) -> None:
    """After so many minibatches, with the augmenter's state after the last of them; after all, nothing is left."""

    def minibatches(augmenter: Augmenter) -> Minibatches:
        return Minibatches(digits.train, 10, digits.preprocessing, BATCH, augmenter=augmenter)

    first, second = (Augmenter(MOVED, (8, 8), np.random.default_rng(7), BATCH) for _ in range(2))
    order = np.random.default_rng(0).permutation(50)
    whole = [(each.features.copy(), each.targets.copy(), each.augmentation) for each in minibatches(first).epoch(order)]
    if done:
        second.restore(whole[done - 1][2])
    rest = list(whole[done:])
    for minibatch, (features, targets, _) in zip(minibatches(second).epoch(order, done), rest, strict=True):
        np.testing.assert_array_equal(minibatch.features, features)
        np.testing.assert_array_equal(minibatch.targets, targets)


def test_an_epoch_that_is_not_finished_leaves_no_thread_behind(digits: Dataset) -> None:
    """As when a job is cancelled; the next epoch is whole again."""
    augmenter = Augmenter(MOVED, digits.preprocessing.input_shape, np.random.default_rng(7), BATCH)
    minibatches = Minibatches(digits.train, 10, digits.preprocessing, BATCH, augmenter=augmenter)
    order, threads = np.arange(50), threading.active_count()
    epoch = minibatches.epoch(order)
    next(epoch)
    assert threading.active_count() == threads + 1
    del epoch
    assert threading.active_count() == threads
    assert [len(minibatch) for minibatch in minibatches.epoch(order)] == [16, 16, 16, 2]


def test_numbers_are_standardised_on_the_way() -> None:
    """As inference will do it."""
    numbers = np.random.default_rng(0).normal(5, 3, (10, 2)).astype(np.float32)
    split = Split(numbers, np.zeros(10, np.int64))
    means, deviations = numbers.mean(axis=0), numbers.std(axis=0)
    preprocessing = Preprocessing((2,), 1.0, standardisation=Standardisation(means, deviations))
    (minibatch,) = Minibatches(split, 2, preprocessing, 10).epoch(np.arange(10))
    np.testing.assert_allclose(minibatch.features.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(minibatch.features.std(axis=0), 1, rtol=1e-5)
    np.testing.assert_allclose(minibatch.features, (numbers - means) / deviations, rtol=1e-6)


def test_the_data_set_itself_is_never_written_to(digits: Dataset) -> None:
    """It may lie in memory that is shared or read-only."""
    examples = digits.train.examples[:40].copy()
    examples.flags.writeable = False
    few = replace(digits, train=Split(examples, digits.train.class_ids[:40]))
    for augmenter in (None, Augmenter(MOVED, (8, 8), np.random.default_rng(7), BATCH)):
        minibatches = Minibatches(few.train, 10, few.preprocessing, BATCH, augmenter=augmenter)
        assert sum(map(len, minibatches.epoch(np.arange(40)))) == 40
