"""Which of gRPC core's experiments this process runs with: chosen before grpcio is loaded.

Promises: an operator who sets `GRPC_EXPERIMENTS`, if only to nothing, has decided. Importing this loads no grpcio.
"""

import os

EXPERIMENTS = "GRPC_EXPERIMENTS"
# On by default in core since 1.66: threads of core's own read the sockets and wake whoever polls the completion queue.
# Without it, who polls reads, and a request crosses no threads at all on its way in (measured: half as many again).
WITHOUT_THREADS_THAT_READ = "-event_engine_listener"


def choose_experiments() -> None:
    """Lets the polling thread itself read from the sockets."""
    os.environ.setdefault(EXPERIMENTS, WITHOUT_THREADS_THAT_READ)
