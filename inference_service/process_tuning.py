"""What this process asks of the libraries below it: of gRPC's core before it is loaded, of the C library once all is.

Promises: an operator who sets the variable concerned, if only to nothing, has decided. Importing this loads no grpcio.
"""

import ctypes
import os

EXPERIMENTS = "GRPC_EXPERIMENTS"
# On by default in core since 1.66: threads of core's own read the sockets and wake whoever polls the completion queue.
# Without it, who polls reads, and a request crosses no threads at all on its way in (measured: half as many again).
WITHOUT_THREADS_THAT_READ = "-event_engine_listener"
# glibc gives large blocks back to the kernel as soon as they are freed, and each page of the next message is then
# cleared and mapped anew (measured: a twelfth of the work for batches of a thousand rows).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
KEPT_BYTES = 32 * 2**20
VARIABLES = {M_TRIM_THRESHOLD: "MALLOC_TRIM_THRESHOLD_", M_MMAP_THRESHOLD: "MALLOC_MMAP_THRESHOLD_"}


def choose_experiments() -> None:
    """Lets the polling thread itself read from the sockets."""
    os.environ.setdefault(EXPERIMENTS, WITHOUT_THREADS_THAT_READ)


def keep_large_blocks() -> None:
    """Keeps the memory of large messages for the next; after the start, whose own large blocks need not be kept."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library has none
    for parameter, variable in VARIABLES.items():
        if mallopt is not None and variable not in os.environ:
            mallopt(parameter, KEPT_BYTES)
