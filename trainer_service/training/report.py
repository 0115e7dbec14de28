"""What was learned: precision and recall by class, the confusion matrix, calibration."""

import numpy as np
import numpy.typing as npt

from shared.model_version import ClassScore, Evaluation
from trainer_service.training.evaluation import Answers

CALIBRATION_BINS = 15


def evaluation_of(
    answers: Answers, truth: npt.NDArray[np.int64], class_count: int, train_accuracy: float
) -> Evaluation:
    """What `answers` say of a network, given the right classes `truth` (rows,)."""
    confusion = np.zeros((class_count, class_count), np.int64)
    np.add.at(confusion, (truth, answers.class_ids), 1)
    right, answered, support = confusion.diagonal(), confusion.sum(axis=0), confusion.sum(axis=1)
    return Evaluation(
        examples=len(truth),
        loss=answers.loss,
        accuracy=answers.accuracy,
        accuracy_gap=train_accuracy - answers.accuracy,
        calibration_error=calibration_error(answers.confidences, answers.class_ids == truth),
        classes=tuple(
            ClassScore(
                precision=float(right[index] / answered[index]) if answered[index] else None,
                recall=float(right[index] / support[index]) if support[index] else None,
                support=int(support[index]),
            )
            for index in range(class_count)
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
    )


def calibration_error(confidences: npt.NDArray[np.float32], is_right: npt.NDArray[np.bool_]) -> float:
    """How far confidence is from accuracy on average over bins of equal width (Guo et al., 2017, equation 3)."""
    bins = np.minimum((confidences * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    confidence_sums = np.bincount(bins, weights=confidences, minlength=CALIBRATION_BINS)
    right_counts = np.bincount(bins, weights=is_right, minlength=CALIBRATION_BINS)
    return float(np.abs(confidence_sums - right_counts).sum() / len(confidences))
