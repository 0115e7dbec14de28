"""Classifies what many requests brought, by as few matrix products as there are versions that answer them.

One request is answered by one version from beginning to end, whatever is swapped meanwhile, and gets its own rows and
no others. What is wrong with one request is that request's: the others are answered.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple, cast
from typing import Protocol as Interface

import numpy as np

from inference_service.classifier import TopClasses, top_classes
from inference_service.inputs import DTYPES, check_form, check_row_count, check_values
from inference_service.model_manager import ModelManager
from inference_service.questions import CLASSIFY_NAMES, Answer, Contents, Question, Reading
from inference_service.snapshot_loader import ServedVersion
from shared.errors import InvalidInputError
from shared.model_version import Manifest
from shared.preprocessing import Rows

# Multiplications that are worth no other thread, for the hand-over costs about as much as 100,000 of them: some
# milliseconds' work, during which whoever answers quick requests answers nobody else.
QUICK_MULTIPLY_ADDS = 2**28


class Record(Interface):
    """Where it is counted what was asked: `inference_service.statistics.Statistics`."""

    def record(
        self, model: str, version: int, requests: int, rows: int, *, seconds_compute: float, seconds_queue: float
    ) -> None:
        """Counts one product of so many requests, which waited so long all together."""

    def record_failure(self, model: str, version: int, seconds: float) -> None:
        """Counts one request that was not answered, after so long."""


class Request(NamedTuple):
    """A reading whose form is right for the version that will answer; `arrived` is a time of `time.perf_counter`."""

    reading: Reading
    contents: Contents
    served: ServedVersion
    rows: int
    arrived: float


class Classification:
    """Answers by the versions that `manager` holds, batches of at most `max_rows`. Safe to call from any thread."""

    def __init__(self, manager: ModelManager, max_rows: int, record: Record) -> None:
        self._manager = manager
        self._max_rows = max_rows
        self._record = record

    def quick_request(self, reading: Reading, contents: Contents, arrived: float) -> Request | None:
        """The request, if it can be answered at once; None if a version or an image has to be read, or it is long work.

        Raises:
            InvalidInputError: if the batch or top_k is not what the model takes.
        """
        question = reading.question
        if question.form is None or (served := self._manager.loaded(question.model, question.selector)) is None:
            return None
        request = self._checked(reading, contents, served, arrived)
        if request.rows * served.multiply_adds > QUICK_MULTIPLY_ADDS:
            return None
        return request

    def request(self, reading: Reading, contents: Contents, arrived: float) -> Request:
        """The request, by a version that may have to be loaded first.

        Raises:
            InvalidInputError: if the batch or top_k is not what the model takes.
            NotFoundError, UnavailableError, SnapshotRejectedError: if no version can answer.
        """
        served = self._manager.serve(reading.question.model, reading.question.selector)
        return self._checked(reading, contents, served, arrived)

    def answers(self, requests: Sequence[Request]) -> list[Answer | Exception]:
        """What each request gets, in order: an answer, or what is wrong with it."""
        groups: dict[tuple[int, str], list[int]] = {}
        for place, request in enumerate(requests):
            form = request.reading.question.form
            groups.setdefault((id(request.served), form.data_type if form else f"images {place}"), []).append(place)
        if len(groups) == 1:
            return self._answers_of_group(requests)
        answers: list[Answer | Exception] = [AssertionError("every request is in a group")] * len(requests)
        for places in groups.values():
            for place, answer in zip(places, self._answers_of_group([requests[p] for p in places]), strict=True):
                answers[place] = answer
        return answers

    def _answers_of_group(self, group: Sequence[Request]) -> list[Answer | Exception]:
        """The answers of requests that one version answers and that have one type of numbers."""
        try:
            return self._computed(group)
        except Exception as error:  # noqa: BLE001 - it is whose request it was that shall learn of it
            if len(group) == 1:
                self._record_failure(group[0].served, group[0].arrived)
                return [error]
            return [answer for request in group for answer in self._answers_of_group([request])]

    def _computed(self, group: Sequence[Request]) -> list[Answer | Exception]:
        served = group[0].served
        rows = self._rows(group)
        started = time.perf_counter()
        probabilities = served.classifier.probabilities(rows)
        top_ks = [request.reading.question.top_k for request in group]
        most = max(top_ks)
        class_ids, scores = top_classes(probabilities, most)
        self._record.record(
            served.model,
            served.ref.version,
            len(group),
            len(rows),
            seconds_compute=time.perf_counter() - started,
            seconds_queue=sum([started - request.arrived for request in group]),
        )
        if len(group) == 1:
            return [Answer(TopClasses(class_ids, scores), most, probabilities, served)]
        answers: list[Answer | Exception] = []
        end = 0
        for request, top_k in zip(group, top_ks, strict=True):
            start, end = end, end + request.rows
            top = TopClasses(class_ids[start:end, :top_k], scores[start:end, :top_k])
            answers.append(Answer(top, top_k, probabilities[start:end], served))
        return answers

    def _rows(self, group: Sequence[Request]) -> Rows:
        """The rows of all requests, uint8 or float32 (rows, input_size): of one request, its own bytes as they came."""
        first = group[0]
        form, preprocessing = first.reading.question.form, first.served.manifest.preprocessing
        if form is None:
            from inference_service.images import rows_of_images  # noqa: PLC0415 - 6 MB that only image files need

            return rows_of_images(cast("tuple[bytes, ...]", first.contents), preprocessing)
        contents = cast("list[bytes]", [request.contents for request in group])
        numbers = contents[0] if len(contents) == 1 else b"".join(contents)
        rows: Rows = np.frombuffer(numbers, DTYPES[form.data_type]).reshape(-1, preprocessing.input_size)
        check_values(rows, preprocessing, form.names)
        return rows

    def _checked(self, reading: Reading, contents: Contents, served: ServedVersion, arrived: float) -> Request:
        if reading.checked_for is not served.manifest:
            try:
                self._check(reading.question, len(contents), served.manifest)
            except InvalidInputError:
                self._record_failure(served, arrived)
                raise
            reading.checked_for = served.manifest
        form = reading.question.form
        return Request(reading, contents, served, form.shape[0] if form else len(contents), arrived)

    def _record_failure(self, served: ServedVersion, arrived: float) -> None:
        self._record.record_failure(served.model, served.ref.version, time.perf_counter() - arrived)

    def _check(self, question: Question, size: int, manifest: Manifest) -> None:
        class_count = manifest.architecture.class_count
        names = question.form.names if question.form else CLASSIFY_NAMES
        if not 1 <= question.top_k <= class_count:
            raise InvalidInputError.of(
                names.top_k, f"got {question.top_k}, expected 1 to {class_count}, the number of classes"
            )
        if question.form is None:
            check_row_count(size, self._max_rows, "images.files")
        else:
            check_form(question.form, size, manifest.preprocessing, self._max_rows)
