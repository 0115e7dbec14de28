"""The contenders' other side: starts each in a process of its own, and lets one at a time work.

Promises: a contender whose library is not installed is named and left out, and one that fails ends the benchmark.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.contenders.task import Answer, Task
from shared.blas import CORETYPE

ROOT = Path(__file__).parents[2]
# Threads that wait for work look for it for a few hundredths of a second, and then sleep: longer than that.
SETTLE_SECONDS = 0.2
THREAD_SETTINGS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def say(text: str) -> None:
    """A line for whoever waits, at once even where that is a pipe."""
    print(text, flush=True)


@dataclass(frozen=True)
class Contender:
    """One row of a table: a module of this folder, the packages it needs, and how its process is set up.

    `own_kernel` is for those that run NumPy on the kernel this project would choose; the others take what they get.
    An `optimizer` is instead of the group's.
    """

    name: str
    module: str
    needs: tuple[str, ...] = ()
    variant: str = ""
    optimizer: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    own_kernel: bool = False

    def missing(self) -> str | None:
        """A package that is not installed, if one is not."""
        return next((name for name in self.needs if find_spec(name) is None), None)


@dataclass(frozen=True)
class Run:
    """What a contender did: its answers, turn by turn, and the kernel that NumPy multiplied with in its process."""

    contender: Contender
    kernel: str
    answers: list[Answer]

    def values(self, figure: str) -> list[float]:
        """One figure, of the turns that gave it."""
        return [value for answer in self.answers if (value := answer.get(figure)) is not None]

    def median(self, figure: str) -> float:
        """The middle of one figure over all turns."""
        return statistics.median(self.values(figure))


class Process:
    """A contender's process, from its start to its end. It works only between `turn`'s call and return."""

    def __init__(self, contender: Contender, task: Task, chosen_kernel: str | None) -> None:
        self._name = contender.name
        environment = {**os.environ, **contender.environment}
        environment |= dict.fromkeys(THREAD_SETTINGS, str(task.threads))
        if chosen_kernel and not contender.own_kernel:
            environment.pop(CORETYPE, None)
        mine = replace(task, variant=contender.variant, optimizer=contender.optimizer or task.optimizer)
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.contenders.{contender.module}", mine.to_json()],
            env=environment,
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._limit_cores(task.threads)

    def _limit_cores(self, threads: int) -> None:
        """For libraries that make a thread for every core they are allowed, whatever they are told."""
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, sorted(os.sched_getaffinity(0))[:threads])

    def ready(self) -> str:
        """Waits until the data is loaded; the kernel of NumPy's products."""
        kernel = self._read()["kernel"]
        return str(kernel)

    def turn(self) -> Answer:
        """Lets it work once."""
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float | None]:
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}; it says above why")
        answer: dict[str, float | None] = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._process.kill()
        self._process.communicate()  # the end of its input is the end of its turns


def take_turns(
    contenders: Sequence[Contender], task: Task, rounds: int, chosen_kernel: str | None, *, warm_up: bool = True
) -> list[Run]:
    """Every contender's answers: one turn each a round, each round led by another; the first round may not count."""
    present = []
    for contender in contenders:
        if missing := contender.missing():
            say(f"{contender.name} is left out: {missing} is not installed")
        else:
            present.append(contender)
    with ExitStack() as stack:
        processes = [stack.enter_context(Process(contender, task, chosen_kernel)) for contender in present]
        runs = [Run(contender, process.ready(), []) for contender, process in zip(present, processes, strict=True)]
        numbers = list(range(len(runs)))
        for number in range(-1 if warm_up else 0, rounds):
            shift = max(0, number) % len(numbers)
            for index in numbers[shift:] + numbers[:shift]:
                time.sleep(SETTLE_SECONDS)
                answer = processes[index].turn()
                if number >= 0:
                    runs[index].answers.append(answer)
    return runs
