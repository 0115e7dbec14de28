"""Keeps a number of worker processes running: starts them, starts again what died, and stops them all at the end."""

import subprocess
import sys
import threading
import time

import structlog

CHECK_SECONDS = 0.5
RESTART_SECONDS = 2.0  # a worker that cannot start must not be started in a tight loop
COMMAND = (sys.executable, "-m", "trainer_service.worker", "--supervised")
log = structlog.get_logger()


class WorkerSupervisor:
    """Runs `count` workers from `start` to `stop`."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._workers: list[subprocess.Popen[bytes]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="worker-supervisor", daemon=True)

    def start(self) -> None:
        """Starts the workers and watches over them."""
        self._workers = [self._start_worker() for _ in range(self._count)]
        self._thread.start()

    def stop(self, grace_seconds: float) -> None:
        """Tells every worker to stop, waits up to `grace_seconds` for all of them, and ends what is left."""
        self._stopping.set()
        self._thread.join()
        for worker in self._workers:
            worker.terminate()
        deadline = time.monotonic() + grace_seconds
        for worker in self._workers:
            try:
                worker.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("a worker did not stop in time; ending it", pid=worker.pid)
                worker.kill()
                worker.wait()

    def _watch(self) -> None:
        while not self._stopping.wait(CHECK_SECONDS):
            for index, worker in enumerate(self._workers):
                if worker.poll() is None:
                    continue
                log.error("a worker ended; starting another", pid=worker.pid, exit_code=worker.returncode)
                if self._stopping.wait(RESTART_SECONDS):
                    return
                try:
                    self._workers[index] = self._start_worker()
                except OSError:  # no memory, no processes left: there may be some in a moment
                    log.exception("a worker could not be started; trying again")

    @staticmethod
    def _start_worker() -> subprocess.Popen[bytes]:
        # start_new_session: Ctrl-C in a terminal reaches the service, and the service stops its workers in order.
        # stdin: a pipe that nobody writes to; it ends when this process does, by SIGKILL too, and tells the worker so.
        worker = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own
        log.info("worker started", pid=worker.pid)
        return worker
