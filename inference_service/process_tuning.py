"""What this process asks of what it stands on: of gRPC's core before it is loaded, of the rest once all is there.

Promises: an operator who sets the variable concerned, if only to nothing, has decided. Importing this loads no grpcio.
"""

import ctypes
import gc
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
# The collector of reference cycles looks for them whenever so many more objects were made than let go. By default that
# is 700, fewer than belong to the requests that are under way: it looked at all of these again and again, in vain
# (measured: a fourteenth of the work for small requests). What was made at the start stays, and need not be looked at.
MADE_BETWEEN_LOOKS = 20_000


def choose_experiments() -> None:
    """Lets the polling thread itself read from the sockets."""
    os.environ.setdefault(EXPERIMENTS, WITHOUT_THREADS_THAT_READ)


def keep_large_blocks() -> None:
    """Keeps the memory of large messages for the next; after the start, whose own large blocks need not be kept."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # another C library has none
    for parameter, variable in VARIABLES.items():
        if mallopt is not None and variable not in os.environ:
            mallopt(parameter, KEPT_BYTES)


def look_for_cycles_rarely() -> None:
    """Has the collector of cycles leave alone what is there now, and what requests make and let go."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MADE_BETWEEN_LOOKS, *gc.get_threshold()[1:])
