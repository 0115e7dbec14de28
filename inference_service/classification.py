"""One classification request, from question to answer: which version, are the rows right, what are they."""

from dataclasses import dataclass

from inference_service.classifier import TopClasses, top_classes
from inference_service.inputs import ImagesInput, TensorInput, rows_of
from inference_service.model_manager import ModelManager
from inference_service.snapshot_loader import ServedVersion
from shared.errors import InvalidInputError
from shared.network import FloatArray


@dataclass(frozen=True)
class Question:
    """What a request asks: `selector` is a version's number or an alias, a `top_k` of 0 means 1."""

    model: str
    selector: int | str
    given: TensorInput | ImagesInput
    top_k: int


@dataclass(frozen=True, eq=False)
class Answer:
    """What one version, `served_by`, made of it; `probabilities` is float32 (rows, classes)."""

    top: TopClasses
    top_k: int
    probabilities: FloatArray
    served_by: ServedVersion


def classify(manager: ModelManager, max_rows: int, question: Question) -> Answer:
    """Answers by one version from beginning to end, whatever is swapped meanwhile.

    Raises:
        InvalidInputError: if the batch or top_k is not what the model takes.
        NotFoundError, UnavailableError, SnapshotRejectedError: if no version can answer.
    """
    served = manager.serve(question.model, question.selector)
    class_count = served.manifest.architecture.class_count
    top_k = question.top_k or 1
    if not 1 <= top_k <= class_count:
        raise InvalidInputError.of("top_k", f"got {top_k}, expected 1 to {class_count}, the number of classes")
    rows = rows_of(question.given, served.manifest.preprocessing, max_rows)
    probabilities = served.classifier.probabilities(rows)
    return Answer(top_classes(probabilities, top_k), top_k, probabilities, served)
