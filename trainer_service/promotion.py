"""Whether a new version shall go live: always, if it is better than the one that is, or when somebody says so."""

import structlog

from shared import snapshot_codec
from shared.errors import NotFoundError, SnapshotRejectedError
from shared.model_version import LIVE, DecodedSnapshot, PromotionOutcome, PromotionVerdict
from shared.recipe import PromotionPolicy
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec
from trainer_service.datasets.dataset import Dataset
from trainer_service.training.evaluation import accuracy_on
from trainer_service.training.loop import TrainedNetwork

log = structlog.get_logger()


def verdict_on(
    trained: TrainedNetwork, spec: TrainingSpec, dataset: Dataset, models: ModelStore, threads: int
) -> PromotionVerdict:
    """The verdict on a network that is about to be published, by the spec's policy and what is live now.

    Raises:
        StoreUnavailableError: if Redis is away.
    """
    accuracy, live_version = trained.answers.accuracy, models.aliases(spec.model).get(LIVE, 0)
    outcome, live_accuracy = PromotionOutcome.PROMOTED, None
    if spec.promotion.policy is PromotionPolicy.MANUAL:
        outcome = PromotionOutcome.MANUAL
    elif spec.promotion.policy is PromotionPolicy.IF_BETTER and live_version:
        live_accuracy = accuracy_of(models, spec.model, live_version, dataset, threads)
        outcome = compared(accuracy, live_accuracy, spec.promotion.margin)
    return PromotionVerdict(outcome, spec.promotion, accuracy, live_version, live_accuracy)


def compared(accuracy: float, live_accuracy: float | None, margin: float) -> PromotionOutcome:
    """What two accuracies on one test split decide; equal ones leave live what is."""
    if live_accuracy is None:
        return PromotionOutcome.NOT_COMPARABLE
    # Rounded, because 0.93 − 0.92 is not 0.01 in binary; finer than one example among a billion.
    won_by = round(accuracy - live_accuracy, 9)
    return PromotionOutcome.PROMOTED if won_by > 0 and won_by >= margin else PromotionOutcome.NOT_BETTER


def accuracy_of(models: ModelStore, model: str, version: int, dataset: Dataset, threads: int) -> float | None:
    """A version's accuracy on a data set's test split; None where it cannot be had."""
    try:
        decoded = snapshot_codec.decode(models.version(model, version).snapshot)
    except (SnapshotRejectedError, NotFoundError) as error:
        log.warning("the live version cannot be compared with", version=version, reason=error.message)
        return None
    if not is_comparable(decoded, dataset):
        return None
    return accuracy_on(decoded.network, decoded.manifest.preprocessing, dataset.test, threads)


def is_comparable(decoded: DecodedSnapshot, dataset: Dataset) -> bool:
    """Whether a version takes a data set's examples and tells its classes apart."""
    its, own = decoded.manifest.preprocessing, dataset.preprocessing
    same_examples = (its.input_shape, its.feature_names) == (own.input_shape, own.feature_names)
    return same_examples and decoded.manifest.class_labels == dataset.class_labels
