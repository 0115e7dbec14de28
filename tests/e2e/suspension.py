"""Processes that stand still, as in a machine that has too much to do."""

import time

import psutil  # type: ignore[import-untyped]


def suspend(process: psutil.Process) -> None:
    """Stops every thread of a process, and returns when none runs any more: the signal alone only asks for that."""
    process.suspend()
    while any(psutil.Process(thread.id).status() != psutil.STATUS_STOPPED for thread in process.threads()):
        time.sleep(0.001)
