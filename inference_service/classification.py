"""Classifies what many requests brought, by as few matrix products as there are versions that answer them.

One request is answered by one version from beginning to end, whatever is swapped meanwhile, and gets its own rows and
no others. What is wrong with one request is that request's: the others are answered.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple
from typing import Protocol as Interface

from inference_service.callers import ROUTING_KEY, Caller
from inference_service.classifier import Classes, TopClasses, top_classes
from inference_service.comparison import Comparisons
from inference_service.inputs import check_form, check_row_count
from inference_service.questions import CLASSIFY_NAMES, Answer, Contents, Question, Reading, Request
from inference_service.rows import rows_of
from inference_service.versions.model_manager import ModelManager
from inference_service.versions.rollouts import ActiveRollout
from inference_service.versions.snapshot_loader import ServedVersion
from shared.errors import InvalidInputError
from shared.model_version import LIVE, Manifest

# Multiplications that are worth no other thread, for the hand-over costs about as much as 100,000 of them: some
# milliseconds' work, during which whoever answers quick requests answers nobody else.
QUICK_MULTIPLY_ADDS = 2**28


class Record(Interface):
    """Where it is counted what was asked: `inference_service.metrics.statistics.Statistics`."""

    def record(
        self, model: str, version: int, requests: int, rows: int, *, seconds_compute: float, seconds_queue: float
    ) -> None:
        """Counts one product of so many requests, which waited so long all together."""

    def record_failure(self, model: str, version: int, seconds: float) -> None:
        """Counts one request that was not answered, after so long."""


class Product(NamedTuple):
    """What was computed at one time: for which requests, the class of each row, when it began, how long it took."""

    requests: Sequence[Request]
    chosen: Classes
    started: float
    seconds: float


class Classification:
    """Answers by the versions that `manager` holds, batches of at most `max_rows`. Safe to call from any thread."""

    def __init__(self, manager: ModelManager, max_rows: int, record: Record, comparisons: Comparisons) -> None:
        self._manager = manager
        self._max_rows = max_rows
        self._record = record
        self._comparisons = comparisons

    def quick_request(self, reading: Reading, contents: Contents, caller: Caller) -> Request | None:
        """The request, if it needs nothing to be read; None if a version or an image must be.

        Raises:
            InvalidInputError: if the batch or top_k is not what the model takes.
        """
        question = reading.question
        if question.form is None or (served := self._manager.loaded(question.model, question.selector)) is None:
            return None
        return self._chosen(reading, contents, served, caller)

    def request(self, reading: Reading, contents: Contents, caller: Caller) -> Request:
        """The request, by a version that may have to be loaded first.

        Raises:
            InvalidInputError: if the batch or top_k is not what the model takes.
            NotFoundError, UnavailableError, SnapshotRejectedError: if no version can answer.
        """
        served = self._manager.serve(reading.question.model, reading.question.selector)
        return self._chosen(reading, contents, served, caller)

    def answers(self, requests: Sequence[Request]) -> tuple[list[Answer | Exception], list[Product]]:
        """What each request gets, in order: an answer, or what is wrong with it; and what is left to `count`."""
        products: list[Product] = []
        first = requests[0]
        if len(requests) == 1 or all(
            request.reading is first.reading and request.served is first.served for request in requests
        ):
            return self._answers_of_group(requests, products), products  # most often: they differ in their numbers only
        groups: dict[tuple[int, str], list[int]] = {}
        for place, request in enumerate(requests):
            form = request.reading.question.form
            groups.setdefault((id(request.served), form.data_type if form else f"images {place}"), []).append(place)
        answers: list[Answer | Exception] = [AssertionError("every request is in a group")] * len(requests)
        for places in groups.values():
            group = [requests[place] for place in places]
            for place, answer in zip(places, self._answers_of_group(group, products), strict=True):
                answers[place] = answer
        return answers, products

    def count(self, products: Sequence[Product]) -> None:
        """Counts what was computed, and has it compared where a rollout wants that: nobody's answer waits for this."""
        for group, chosen, started, seconds in products:
            served = group[0].served
            self._record.record(
                served.model,
                served.ref.version,
                len(group),
                len(chosen),
                seconds_compute=seconds,
                seconds_queue=sum([started - request.caller.arrived for request in group]),
            )
            if self._manager.rollout(served.model) is not None:
                self._compare(group, chosen, seconds)

    def _answers_of_group(self, group: Sequence[Request], products: list[Product]) -> list[Answer | Exception]:
        """The answers of requests that one version answers and that have one type of numbers."""
        try:
            return self._computed(group, products)
        except Exception as error:  # noqa: BLE001 - it is whose request it was that shall learn of it
            if len(group) > 1:
                return [answer for request in group for answer in self._answers_of_group([request], products)]
            (request,) = group
            if request.rollout and request.other and request.rollout.answers:  # the candidate's failures are nobody's
                self._comparisons.drop(request, request.rollout)
                by_other = request._replace(served=request.other, rollout=None, other=None)
                return self._answers_of_group([by_other], products)
            self._record_failure(request.served, request.caller)
            return [error]

    def _computed(self, group: Sequence[Request], products: list[Product]) -> list[Answer | Exception]:
        served = group[0].served
        rows = rows_of(group, served.manifest.preprocessing)
        started = time.perf_counter()
        probabilities = served.classifier.probabilities(rows)
        top_ks = [request.reading.question.top_k for request in group]
        most = max(top_ks)
        class_ids, scores = top_classes(probabilities, most)
        products.append(Product(group, class_ids[:, 0], started, time.perf_counter() - started))
        if len(group) == 1:
            return [Answer(TopClasses(class_ids, scores), most, probabilities, served)]
        answers: list[Answer | Exception] = []
        end = 0
        for request, top_k in zip(group, top_ks, strict=True):
            start, end = end, end + request.rows
            top = TopClasses(class_ids[start:end, :top_k], scores[start:end, :top_k])
            answers.append(Answer(top, top_k, probabilities[start:end], served))
        return answers

    def _compare(self, group: Sequence[Request], chosen: Classes, seconds: float) -> None:
        """Counts what was answered under a rollout, and has its share compared."""
        end = 0
        for request in group:
            start, end = end, end + request.rows
            if request.rollout is not None:
                self._comparisons.count(request.rollout, request.served, 1, request.rows, seconds)
                self._comparisons.offer(request, chosen[start:end])

    def _chosen(self, reading: Reading, contents: Contents, served: ServedVersion, caller: Caller) -> Request:
        """The request, by `served`, or by a candidate that is tried in the place of the live version."""
        question = reading.question
        request = self._checked(reading, contents, served, caller)
        if question.selector != LIVE or (rollout := self._manager.rollout(question.model)) is None:
            return request
        if not rollout.takes(question.model, caller.header(ROUTING_KEY)):
            return request._replace(rollout=rollout)
        if not self._suits(rollout, question, len(contents)):
            self._comparisons.drop(request, rollout)
            return request._replace(rollout=rollout)
        served, other = (rollout.candidate, served) if rollout.answers else (served, rollout.candidate)
        return request._replace(served=served, rollout=rollout, other=other)

    def _suits(self, rollout: ActiveRollout, question: Question, size: int) -> bool:
        """Whether the candidate takes a batch, which the live version may take all the same."""
        try:
            self._check(question, size, rollout.candidate.manifest)
        except InvalidInputError:
            return False
        return True

    def _checked(self, reading: Reading, contents: Contents, served: ServedVersion, caller: Caller) -> Request:
        if reading.checked_for is not served.manifest:
            try:
                self._check(reading.question, len(contents), served.manifest)
            except InvalidInputError:
                self._record_failure(served, caller)
                raise
            reading.checked_for = served.manifest
        form = reading.question.form
        return Request(reading, contents, served, form.shape[0] if form else len(contents), caller)

    def _record_failure(self, served: ServedVersion, caller: Caller) -> None:
        self._record.record_failure(served.model, served.ref.version, time.perf_counter() - caller.arrived)

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
