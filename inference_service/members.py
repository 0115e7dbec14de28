"""Several processes that answer on one port: who starts them and watches over them, and how one knows it is of them.

The supervisor answers no request itself and loads nothing that answering needs; it tells what all of them counted. Each
of the others serves as a process alone does, and they know of each other by a board.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from inference_service.board import remove_files_of, standings_in
from inference_service.metrics.server import MetricsServer
from inference_service.metrics.totals import Totals, read_folder
from inference_service.ports import KeptPort
from shared import logs
from shared.process_supervisor import ProcessSupervisor, stop_request
from shared.settings import InferenceSettings, load
from shared.whole_files import write_whole

MEMBER = "--member"  # the internal argument: before the member's number and the board's folder
COMMAND = (sys.executable, "-m", "inference_service", MEMBER)
LISTEN, PORT_FILE = "WEIGHTCAST_INFERENCE_LISTEN", "WEIGHTCAST_PORT_FILE"
POLL_SECONDS = 0.02
ENDING_SECONDS = 5.0  # beyond the time that each process gives itself, to come to an end
# Where the board is, if it can be: on a disk, who counts in a file would wait now and then until it is written.
MEMORY = "/dev/shm"  # noqa: S108 - a folder in it is made by tempfile, as anywhere else
log = structlog.get_logger()


@dataclass(frozen=True)
class Membership:
    """Which of several processes this one is, and where their board is."""

    number: int
    board: Path


def membership() -> Membership | None:
    """This process's, None if it is no supervisor's."""
    match sys.argv[1:]:
        case [word, number, folder] if word == MEMBER:
            return Membership(int(number), Path(folder))
    return None


def supervise_if_several() -> None:
    """Returns at once in a process that shall serve; one that shall watch over others does that, and then ends."""
    if membership() is None and (settings := load(InferenceSettings)).inference_processes > 1:
        logs.configure(settings.log_level, "inference-supervisor")
        supervise(settings)
        sys.exit()


def supervise(settings: InferenceSettings) -> None:
    """Runs the processes until SIGTERM or SIGINT; ends with status 1 if the address cannot be listened on."""
    asked = stop_request()
    try:
        port = KeptPort(settings.inference_listen)
    except OSError as error:
        sys.exit(
            f"WEIGHTCAST_INFERENCE_LISTEN: cannot listen on {settings.inference_listen}: {error.strerror}; "
            "end the program that has the port, or choose another"
        )
    metrics = MetricsServer(settings)
    with tempfile.TemporaryDirectory(
        prefix="weightcast-board-", dir=memory_folder(), ignore_cleanup_errors=True
    ) as folder:
        board, count = Path(folder), settings.inference_processes
        supervisor = ProcessSupervisor(
            "inference process",
            [(*COMMAND, str(number), folder) for number in range(1, count + 1)],
            # The port file is written here, once all of them listen.
            environment={LISTEN: port.address, PORT_FILE: ""},
            ended=partial(take_off, board, Totals(board)),
        )
        supervisor.start()
        metrics.start(partial(read_folder, board), partial(listening_on, board))
        while not asked.wait(POLL_SECONDS):
            if listening_on(board) == count:
                log.info("every process listens", address=port.address, processes=count)
                if settings.port_file is not None:
                    write_whole(settings.port_file, str(port.port))
                break
        asked.wait()
        log.info("stopping")
        supervisor.stop(settings.inference_drain_seconds + settings.shutdown_grace_seconds + ENDING_SECONDS)
        metrics.stop()
    port.close()


def listening_on(board: Path) -> int:
    """How many processes on a board can be reached by requests."""
    return sum(standing.listening for standing in standings_in(board))


def take_off(board: Path, totals: Totals, pid: int) -> None:
    """Takes a process off a board that has ended; what it counted stays."""
    remove_files_of(board, pid)
    totals.add(pid)


def memory_folder() -> str | None:
    """A folder whose files are in memory, None if there is none."""
    return MEMORY if os.access(MEMORY, os.W_OK) else None
