"""The workers that the trainer runs itself: which command is one, watched over as any supervised process is."""

import sys

from shared.process_supervisor import ProcessSupervisor

COMMAND = (sys.executable, "-m", "trainer_service.worker", "--supervised")


class WorkerSupervisor(ProcessSupervisor):
    """Runs `count` workers from `start` to `stop`."""

    def __init__(self, count: int) -> None:
        super().__init__("training worker", [COMMAND] * count)
