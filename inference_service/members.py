"""Several processes that answer on one port: who starts them and watches over them, and how one knows it is of them.

The supervisor serves nothing itself and loads nothing that serving needs. Each of the others serves as a process alone
does, and they know of each other by a board.
"""

import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from inference_service.board import remove_files_of, standings_in
from inference_service.ports import KeptPort
from shared import logs
from shared.process_supervisor import ProcessSupervisor, stop_request
from shared.settings import InferenceSettings, load
from shared.whole_files import write_whole

MEMBER = "--member"  # the internal argument: before the member's number and the board's folder
COMMAND = (sys.executable, "-m", "inference_service", MEMBER)
LISTEN, PORT_FILE = "WEIGHTCAST_INFERENCE_LISTEN", "WEIGHTCAST_PORT_FILE"
POLL_SECONDS = 0.02
ENDING_SECONDS = 5.0  # beyond the grace period that each process has itself, to come to an end
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
    with tempfile.TemporaryDirectory(prefix="weightcast-board-", ignore_cleanup_errors=True) as folder:
        board, count = Path(folder), settings.inference_processes
        supervisor = ProcessSupervisor(
            "inference process",
            [(*COMMAND, str(number), folder) for number in range(1, count + 1)],
            # The port file is written here, once all of them listen.
            environment={LISTEN: port.address, PORT_FILE: ""},
            ended=partial(remove_files_of, board),
        )
        supervisor.start()
        while not asked.wait(POLL_SECONDS):
            if sum(standing.listening for standing in standings_in(board)) == count:
                log.info("every process listens", address=port.address, processes=count)
                if settings.port_file is not None:
                    write_whole(settings.port_file, str(port.port))
                break
        asked.wait()
        log.info("stopping")
        supervisor.stop(settings.shutdown_grace_seconds + ENDING_SECONDS)
    port.close()
