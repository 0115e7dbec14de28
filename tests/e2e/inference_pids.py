"""Which processes an inference service of several is made of, and which of them requests reach."""

from contextlib import suppress

import psutil  # type: ignore[import-untyped]

from client.local_stack import LocalStack


def inference_pids(stack: LocalStack) -> set[int]:
    """The processes that answer, or will as soon as they can."""
    assert stack.inference.process is not None
    return {child.pid for child in psutil.Process(stack.inference.process.pid).children()}


def listening_pids(stack: LocalStack) -> set[int]:
    """Those of them that can be reached.

    Only the service's own port counts: a process that was forked just now and runs nothing yet still has the sockets of
    its supervisor, who listens for whoever asks for metrics.
    """
    port = int(stack.inference.address.rpartition(":")[2])
    found = set()
    for pid in inference_pids(stack):
        with suppress(psutil.NoSuchProcess):  # it was killed just now
            sockets = psutil.Process(pid).net_connections("tcp")
            if any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in sockets):
                found.add(pid)
    return found
