"""What is published: the best epoch's weights, an average of them, and nothing that the test split had a say in."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared.layers import Activation, Dense
from shared.network import Architecture, Network
from shared.recipe import Optimizer
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.training.averaging import MovingAverage
from trainer_service.training.early_stopping import Best
from trainer_service.training.initialization import initial_network
from trainer_service.training.loop import TrainedNetwork, set_aside

SPEC = TrainingSpec("m", "made", seed=3, layers=(Dense(8, Activation.RELU),), epochs=4, batch_size=10)
# Learns so fast that it soon gets worse again.
HASTY = replace(
    SPEC, epochs=40, learning_rate=0.05, layers=(Dense(64, Activation.RELU),), validation_fraction=0.3
)  # fmt: skip
Train = Callable[..., TrainedNetwork]


@pytest.fixture(scope="module")
def noisy(make_dataset: Callable[..., Dataset]) -> Dataset:
    """60 rows of which every third has a wrong label, so that learning them by heart shows."""
    dataset = make_dataset(60)
    class_ids = dataset.train.class_ids.copy()
    class_ids[::3] = (class_ids[::3] + 1) % 3
    return replace(dataset, train=Split(dataset.train.examples, class_ids))


def epoch(number: int, validation_loss: float) -> EpochMetrics:
    return EpochMetrics(number, 1, 1, 1, 1, 1, 1, validation_loss=validation_loss, validation_accuracy=1)


def test_patience_counts_epochs_without_a_smaller_loss(make_network: Callable[[Architecture, int], Network]) -> None:
    """A loss that is only as small does not count; the best weights are a copy of that moment's."""
    network = make_network(Architecture.dense(2, (), 2), 0)
    best = Best(2, network)
    for number, (loss, is_over) in enumerate(
        [(0.5, False), (0.4, False), (0.6, False), (0.3, False), (0.3, False), (0.31, True)], start=1
    ):
        network.parameters[:] = number
        best.note(epoch(number, loss), network)
        assert best.is_over(number) is is_over
    assert best.epoch == 4
    assert best.network is not None
    assert (best.network.parameters == 4).all()


def test_without_patience_training_goes_on(make_network: Callable[[Architecture, int], Network]) -> None:
    """And the last weights are taken."""
    network = make_network(Architecture.dense(2, (), 2), 0)
    best = Best(0, network)
    for number, loss in ((1, 0.1), (2, 9.0), (3, 99.0)):
        best.note(epoch(number, loss), network)
        assert not best.is_over(number)
    assert (best.network, best.epoch) == (None, 0)


def test_where_nothing_is_validated_training_goes_on(make_network: Callable[[Architecture, int], Network]) -> None:
    """As where a single example is all there is: patience has nothing to wait for."""
    network = make_network(Architecture.dense(2, (), 2), 0)
    best = Best(1, network)
    for number in (1, 2, 3):
        best.note(replace(epoch(number, 1.0), validation_loss=None), network)
        assert not best.is_over(number)
    assert (best.network, best.epoch) == (None, 0)


def test_early_stopping_restores_the_best_epochs_weights(noisy: Dataset, trained: Train) -> None:
    """They are, bit for bit, what a training of just so many epochs ends with."""
    stopped = trained(replace(HASTY, early_stopping_patience=3), noisy)
    losses = [metrics.validation_loss for metrics in stopped.epochs]
    best = int(np.argmin(losses)) + 1  # type: ignore[arg-type]
    assert stopped.published_epoch == best
    assert len(losses) == best + 3 < HASTY.epochs
    shorter = trained(replace(HASTY, epochs=best), noisy)
    assert shorter.published_epoch == best
    assert stopped.network.parameters.tobytes() == shorter.network.parameters.tobytes()


def test_the_answers_are_those_of_the_published_weights(
    noisy: Dataset, trained: Train, plain_forward: Callable[..., np.ndarray]
) -> None:
    """Not of the last epoch's, where another was better."""
    stopped = trained(replace(HASTY, early_stopping_patience=3), noisy)
    published, last = stopped.epochs[stopped.published_epoch - 1], stopped.epochs[-1]
    assert stopped.answers.loss == published.test_loss != last.test_loss
    assert stopped.answers.accuracy == published.test_accuracy
    probabilities = plain_forward(stopped.network, noisy.test.examples / 255)
    np.testing.assert_array_equal(stopped.answers.class_ids, probabilities.argmax(axis=1))
    np.testing.assert_allclose(stopped.answers.confidences, probabilities.max(axis=1), rtol=1e-4)


def test_without_early_stopping_the_last_epoch_is_published(noisy: Dataset, trained: Train) -> None:
    """Even where an earlier one was better."""
    assert trained(HASTY, noisy).published_epoch == HASTY.epochs
    assert len(trained(HASTY, noisy).epochs) == HASTY.epochs


def test_the_test_split_decides_nothing(noisy: Dataset, trained: Train) -> None:
    """With any other test examples the same weights are published."""
    spec = replace(HASTY, early_stopping_patience=3)
    wrong = Split(noisy.test.examples[::-1].copy(), (noisy.test.class_ids + 1) % 3)
    one, other = trained(spec, noisy), trained(spec, replace(noisy, test=wrong))
    assert one.network.parameters.tobytes() == other.network.parameters.tobytes()
    assert one.published_epoch == other.published_epoch
    assert one.epochs[0].test_loss != other.epochs[0].test_loss


@pytest.mark.parametrize(("fraction", "aside"), [(0.1, 10), (0.25, 25), (0.5, 50), (0.001, 1)])
def test_what_is_set_aside_is_not_trained_on(fraction: float, aside: int) -> None:
    """Two parts that have no example in common and together have all, with their own labels; at least one aside."""
    split = Split(np.arange(100, dtype=np.uint8)[:, np.newaxis], np.arange(100) % 7)
    left, validation = set_aside(split, fraction, np.random.default_rng(0))
    assert validation is not None
    assert (len(left), len(validation)) == (100 - aside, aside)
    numbers = np.concatenate((left.examples[:, 0], validation.examples[:, 0]))
    assert sorted(numbers.tolist()) == list(range(100))
    for part in (left, validation):
        np.testing.assert_array_equal(part.class_ids, part.examples[:, 0] % 7)
    assert set_aside(split, fraction, np.random.default_rng(1))[1] is not None
    other = set_aside(split, 0.5, np.random.default_rng(1))[0]
    assert not np.array_equal(other.examples, set_aside(split, 0.5, np.random.default_rng(2))[0].examples)


def test_nothing_is_set_aside_where_nothing_is_asked_for() -> None:
    """And nothing copied."""
    split = Split(np.zeros((3, 1), np.uint8), np.zeros(3, np.int64))
    assert set_aside(split, 0.0, np.random.default_rng(0)) == (split, None)


def test_a_single_example_is_left_to_train_on() -> None:
    """However few there are, training has something to learn from."""
    split = Split(np.zeros((1, 1), np.uint8), np.zeros(1, np.int64))
    assert len(set_aside(split, 0.5, np.random.default_rng(0))[0]) == 1


def test_validation_is_measured_and_training_sees_less(make_dataset: Callable[..., Dataset], trained: Train) -> None:
    """50 rows less 20 are 3 minibatches of 10; without validation there is no such figure."""
    dataset = make_dataset(50)
    measured = trained(replace(SPEC, validation_fraction=0.4), dataset).epochs[-1]
    assert measured.validation_loss is not None
    assert measured.validation_loss > 0
    assert measured.validation_accuracy is not None
    assert (measured.validation_accuracy * 20) % 1 == pytest.approx(0)
    plain = trained(SPEC, dataset).epochs[-1]
    assert (plain.validation_loss, plain.validation_accuracy) == (None, None)


def test_the_average_is_what_is_measured_and_published(make_dataset: Callable[..., Dataset], trained: Train) -> None:
    """Not the weights it follows, which are trained as they would be without it."""
    dataset = make_dataset(10)  # one update an epoch
    spec = replace(SPEC, epochs=5, optimizer=Optimizer.SGD, learning_rate=0.5)
    followed = [trained(replace(spec, epochs=epochs), dataset).network for epochs in range(1, 6)]
    averaged = trained(replace(spec, ema_decay=0.99), dataset)
    weights, *_ = np.random.default_rng(spec.seed).spawn(1)
    expected = MovingAverage(initial_network(averaged.network.architecture, weights), 0.99)
    for network in followed:
        expected.update(network)
    np.testing.assert_allclose(averaged.network.parameters, expected.network.parameters, rtol=1e-5, atol=1e-7)
    assert averaged.epochs[-1].test_loss == averaged.answers.loss
