"""What was learned: scores, confusion and calibration by hand, and an evaluator that misses no example."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from shared import snapshot_codec
from shared.layers import Activation, Conv2D, Dense, Flatten, Layer, MaxPool2D
from shared.model_version import ClassScore
from shared.network import Architecture, Network
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.publishing import library_versions, self_test, snapshot_of
from trainer_service.training.evaluation import Answers, Evaluator, accuracy_on
from trainer_service.training.loop import TrainedNetwork
from trainer_service.training.parallel import Threads
from trainer_service.training.report import calibration_error, evaluation_of

PICTURES = Architecture(
    (8, 8), (Conv2D(16, 3, 1, Activation.RELU), MaxPool2D(2), Flatten(), Dense(10, Activation.IDENTITY))
)


def test_scores_and_confusion_by_hand() -> None:
    """Of six examples: truth 0 0 0 1 1 3, answers 0 0 1 1 0 1; nothing is taken for 2 or 3, and nothing is a 2."""
    truth = np.array([0, 0, 0, 1, 1, 3])
    answers = Answers(0.5, 0.5, np.array([0, 0, 1, 1, 0, 1]), np.full(6, 0.5, np.float32))
    found = evaluation_of(answers, truth, 4, train_accuracy=0.75)
    assert found.confusion == ((2, 1, 0, 0), (1, 1, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0))
    assert found.classes == (
        ClassScore(2 / 3, 2 / 3, 3),
        ClassScore(1 / 3, 1 / 2, 2),
        ClassScore(None, None, 0),
        ClassScore(None, 0.0, 1),
    )
    assert (found.examples, found.loss, found.accuracy, found.accuracy_gap) == (6, 0.5, 0.5, 0.25)
    assert found.calibration_error == pytest.approx(0)  # half sure, and right in half of the cases


@pytest.mark.parametrize(
    ("confidences", "right", "expected"),
    [
        ([1.0, 1.0], [True, True], 0),
        ([1.0, 1.0], [True, False], 0.5),
        ([1.0, 1.0], [False, False], 1),
        # Two bins of 15, 0.9 (of which 3 of 4 are right) and 0.5 (of which 1 of 1 is): (4·0.15 + 1·0.5) / 5.
        ([0.9, 0.9, 0.9, 0.9, 0.5], [True, True, True, False, True], (4 * 0.15 + 0.5) / 5),
        # One bin, from 0.4667 to 0.5333: their errors outweigh each other.
        ([0.48, 0.52], [True, False], 0),
        # Two bins: they do not.
        ([0.45, 0.55], [True, False], (0.55 + 0.55) / 2),
    ],
)
def test_calibration_by_hand(confidences: list[float], right: list[bool], expected: float) -> None:
    """How far confidence is from accuracy, bin by bin, weighted by the bins' examples."""
    found = calibration_error(np.array(confidences, np.float32), np.array(right))
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 7, 999, 1797])
@pytest.mark.parametrize("architecture", [Architecture.dense(64, (32,), 10), PICTURES], ids=["dense", "pictures"])
def test_an_evaluator_answers_for_every_example(
    *,
    digits: Dataset,
    make_network: Callable[[Architecture, int], Network],
    plain_forward: Callable[..., np.ndarray],
    architecture: Architecture,
    rows: int,
    threads: int,
) -> None:
    """In chunks on any number of threads: loss, accuracy, classes and confidences are those of a float64 loop."""
    examples = np.concatenate((digits.train.examples, digits.test.examples))[:rows]
    split = Split(examples, np.concatenate((digits.train.class_ids, digits.test.class_ids))[:rows])
    network = make_network(architecture, 4)
    network.parameters[:] *= 0.3
    with Threads(threads) as own:
        answers = Evaluator(architecture, digits.preprocessing, own).answers(network, split)
    expected = plain_forward(network, examples / 16)
    assert answers.loss == pytest.approx(-np.log(expected[np.arange(rows), split.class_ids]).mean(), rel=1e-4)
    np.testing.assert_array_equal(answers.class_ids, expected.argmax(axis=1))
    np.testing.assert_allclose(answers.confidences, expected.max(axis=1), rtol=1e-4)
    assert answers.accuracy == np.mean(expected.argmax(axis=1) == split.class_ids)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("layers", [(Dense(16, Activation.RELU),), PICTURES.layers[:-1]], ids=["dense", "pictures"])
def test_a_version_is_measured_again_as_training_measured_it(
    digits: Dataset, trained: Callable[..., TrainedNetwork], layers: tuple[Layer, ...], threads: int
) -> None:
    """On the same split to the last digit; and behind the preprocessing that is handed over, whatever it is."""
    run = trained(TrainingSpec("m", "digits", 1, layers=layers, epochs=2, learning_rate=0.01), digits, threads)
    assert accuracy_on(run.network, digits.preprocessing, digits.test, threads) == run.answers.accuracy
    assert run.answers.accuracy > 0.5
    negative = replace(digits.preprocessing, uint8_scale=-digits.preprocessing.uint8_scale)
    assert accuracy_on(run.network, negative, digits.test, threads) < 0.5


def test_a_network_that_answers_nan_is_measured_without_a_warning(
    digits: Dataset, make_network: Callable[[Architecture, int], Network]
) -> None:
    """An answer that is no number is a wrong one, and no reason to fail."""
    network = make_network(Architecture.dense(64, (8,), 10), 0)
    network.parameters[:] *= np.float32(1e30)
    assert 0 <= accuracy_on(network, digits.preprocessing, digits.test) < 0.5


def test_a_network_that_answers_nan_has_no_loss(
    digits: Dataset, make_network: Callable[[Architecture, int], Network]
) -> None:
    """Which is how training finds out that its last update broke it."""
    network = make_network(Architecture.dense(64, (), 10), 0)
    network.parameters[0] = np.nan
    assert math.isnan(
        Evaluator(network.architecture, digits.preprocessing, Threads(1)).answers(network, digits.test).loss
    )


def test_a_snapshot_tells_what_was_learned_and_how_to_check_it(
    digits: Dataset, trained: Callable[..., TrainedNetwork], plain_forward: Callable[..., np.ndarray]
) -> None:
    """Scores are those of the published epoch, and the self-test's answers those of the published weights."""
    spec = TrainingSpec("m", "digits", 1, layers=PICTURES.layers[:-1], epochs=6, batch_size=64, learning_rate=0.02)
    run = trained(replace(spec, validation_fraction=0.2, early_stopping_patience=1), digits)
    versions = library_versions(2)
    manifest = snapshot_codec.decode(snapshot_of(run, spec, digits, "job", versions)).manifest
    assert manifest.evaluation is not None
    assert manifest.published_epoch == run.published_epoch
    published = run.epochs[run.published_epoch - 1]
    assert manifest.evaluation.accuracy == published.test_accuracy
    assert manifest.evaluation.accuracy_gap == published.train_accuracy - published.test_accuracy
    assert manifest.evaluation.examples == np.sum(manifest.evaluation.confusion) == len(digits.test)
    assert sum(score.support for score in manifest.evaluation.classes) == len(digits.test)
    assert manifest.provenance.dataset_digest == digits.digest
    assert manifest.provenance.library_versions == versions
    test = self_test(run.network, digits)
    np.testing.assert_array_equal(test.inputs, digits.test.examples[:4])
    np.testing.assert_allclose(test.probabilities, plain_forward(run.network, test.inputs / 16), atol=1e-5)


def test_what_the_weights_depend_on_is_named() -> None:
    """Interpreter, machine and its instructions, libraries, BLAS with its kernel, threads, our own source."""
    versions = library_versions(2)
    assert {"python", "machine", "instructions", "numpy", "blas", "blas kernel", "threads"} <= versions.keys()
    assert versions["threads"] == "2"
    assert re.fullmatch("[0-9a-f]{12}", versions["weightcast source"])
    assert all(versions.values())
