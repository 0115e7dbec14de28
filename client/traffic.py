"""A steady flow of classification requests from several threads, and a tally of what came back.

The demo, the hot-swap tests and the benchmarks use it to see whether a swap loses or mixes an answer.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from client.errors import RpcError
from client.inference_client import InferenceClient, Prediction

AFTER_FAILURE_SECONDS = 0.01  # a service that is gone need not be asked thousands of times a second


@dataclass
class Tally:
    """What the flow saw; `first_answer` is, for each version, the wall-clock time of its first answer, in seconds."""

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    digests: dict[int, set[str]] = field(default_factory=dict)
    first_answer: dict[int, float] = field(default_factory=dict)
    went_back: int = 0


class Traffic:
    """Sends batches drawn from `examples` in turn, from `start` to `stop`, a pause after each answer.

    `verify` gets each batch's examples and its prediction, and returns what is wrong with it, or an empty string; `ask`
    sends a batch.
    """

    def __init__(
        self,
        address: str,
        model: str,
        examples: npt.NDArray[np.uint8 | np.float32],
        *,
        threads: int = 2,
        batch_rows: int = 100,
        pause_seconds: float = 0.0,
        verify: Callable[[npt.NDArray[np.uint8 | np.float32], Prediction], str] = lambda _examples, _prediction: "",
        ask: Callable[
            [InferenceClient, str, npt.NDArray[np.uint8 | np.float32]], Prediction
        ] = InferenceClient.classify,
    ) -> None:
        self.tally = Tally()
        self._address = address
        self._model = model
        self._batches = [examples[start : start + batch_rows] for start in range(0, len(examples), batch_rows)]
        self._verify = verify
        self._ask = ask
        self._pause_seconds = pause_seconds
        self._lock = threading.Lock()
        self._answered = threading.Condition(self._lock)
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._send, args=(index,), daemon=True) for index in range(threads)]

    def start(self) -> None:
        """Begins to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """Stops, waits for the answers under way, and returns the tally."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        return self.tally

    def wait_for_version(self, version: int, seconds: float) -> float:
        """The wall-clock time of the first answer by `version` or a later one.

        Raises:
            TimeoutError: if none came within `seconds`.
        """
        with self._answered:
            if not self._answered.wait_for(lambda: max(self.tally.first_answer, default=0) >= version, seconds):
                raise TimeoutError(f"no answer by version {version} within {seconds:g} s")
            return min(when for answered, when in self.tally.first_answer.items() if answered >= version)

    def _send(self, index: int) -> None:
        newest = 0
        # No retries: a request that fails once counts as failed.
        with InferenceClient(self._address, retry=False) as client:
            while not self._stopping.is_set():
                batch = self._batches[index % len(self._batches)]
                index += 1
                try:
                    prediction = self._ask(client, self._model, batch)
                except RpcError as error:
                    self._note_failure(f"{error.code.name}: {error.message}")
                    self._stopping.wait(max(self._pause_seconds, AFTER_FAILURE_SECONDS))
                    continue
                if wrong := self._verify(batch, prediction):
                    self._note_failure(wrong)
                self._note(prediction, time.time(), went_back=prediction.version < newest)
                newest = max(newest, prediction.version)
                self._stopping.wait(self._pause_seconds)

    def _note_failure(self, what: str) -> None:
        with self._lock:
            self.tally.requests += 1
            self.tally.failures.append(what)

    def _note(self, prediction: Prediction, now: float, *, went_back: bool) -> None:
        with self._answered:
            self.tally.requests += 1
            self.tally.went_back += went_back
            self.tally.digests.setdefault(prediction.version, set()).add(prediction.digest)
            if prediction.version not in self.tally.first_answer:
                self.tally.first_answer[prediction.version] = now
                self._answered.notify_all()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
