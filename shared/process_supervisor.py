"""Keeps a number of processes running: starts them, starts again what died, and stops them all at the end.

One that lived for a while is started again at once, one that cannot start every two seconds. None outlives the
supervisor if it calls `end_with_supervisor`, however the supervisor ends.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

RESTART_SECONDS = 2.0  # between two starts: what cannot start must not be started in a tight loop
log = structlog.get_logger()


class ProcessSupervisor:
    """Runs one process for each of `commands` from `start` to `stop`.

    `kind` names them in the log. `environment` is added to this process's own. `ended` is told the pid of each process
    that has ended, before another takes its place.
    """

    def __init__(
        self,
        kind: str,
        commands: Sequence[Sequence[str]],
        *,
        environment: Mapping[str, str] | None = None,
        ended: Callable[[int], None] = lambda _pid: None,
    ) -> None:
        self._log = log.bind(kind=kind)
        self._commands = commands
        self._environment = {**os.environ, **(environment or {})}
        self._ended = ended
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._lock = threading.Lock()  # so that nothing is started that `stop` does not see

    def start(self) -> None:
        """Starts the processes and watches over them.

        Raises:
            OSError: if one cannot be started at all.
        """
        for index in range(len(self._commands)):
            self._start_process(index)
            self._threads.append(
                threading.Thread(target=self._keep, args=(index,), name=f"supervisor-{index}", daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Tells every process to stop, waits up to `grace_seconds` for all of them, and ends what is left."""
        with self._lock:
            self._stopping.set()
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + grace_seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for index, thread in enumerate(self._threads):
            if thread.is_alive():
                process = self._processes[index]
                self._log.warning("a process did not stop in time; ending it", pid=process.pid)
                process.kill()
                thread.join()

    def _keep(self, index: int) -> None:
        """Waits for the end of one process after the other."""
        while True:
            process, begin = self._processes[index], time.monotonic()
            exit_code = process.wait()
            if process.stdin is not None:
                process.stdin.close()
            self._ended(process.pid)
            if self._stopping.is_set():
                return
            self._log.error("a process ended; starting another", pid=process.pid, exit_code=exit_code)
            pause = RESTART_SECONDS - (time.monotonic() - begin)
            while not self._stopping.wait(max(0.0, pause)):
                try:
                    self._start_process(index)
                    break
                except OSError:  # no memory, no processes left: there may be some in a moment
                    self._log.exception("a process could not be started; trying again")
                    pause = RESTART_SECONDS
            else:
                return

    def _start_process(self, index: int) -> None:
        with self._lock:
            if self._stopping.is_set():
                return
            # start_new_session: Ctrl-C in a terminal reaches the service, and the service stops the others in order.
            # stdin: a pipe that nobody writes to; it ends when this process does, by SIGKILL too, and tells them so.
            process = subprocess.Popen(  # noqa: S603 - our own
                self._commands[index], env=self._environment, stdin=subprocess.PIPE, start_new_session=True
            )
            self._processes[index] = process
        self._log.info("process started", pid=process.pid)


def end_with_supervisor(first: Callable[[], None] = lambda: None) -> None:
    """Asks this process to end, as SIGTERM does, when its supervisor has ended without asking; calls `first` before."""
    threading.Thread(target=_wait_for_supervisor, args=(first,), name="supervisor-watch", daemon=True).start()


def _wait_for_supervisor(first: Callable[[], None]) -> None:
    # The supervisor holds the other end of our input, and the kernel closes that however it ends.
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written; not sys.stdin.read, whose lock would outlive us
    first()
    os.kill(os.getpid(), signal.SIGTERM)


def stop_request() -> threading.Event:
    """An event that is set when this process is asked to end by SIGTERM or SIGINT; for the main thread to call."""
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    return asked
