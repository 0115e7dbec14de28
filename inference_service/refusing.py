"""What becomes of a request that is not answered: it is counted, logged, and its caller is told by a status."""

import time

from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from inference_service.callers import Caller
from inference_service.request_log import RequestLog
from shared.errors import WeightcastError
from shared.grpc_errors import code_of, status_of_any


def refused(caller: Caller, error: Exception, log: RequestLog) -> Status:
    """The status that tells the caller of `error`, which is counted and logged."""
    note(caller, error, log)
    return status_of_any(error, caller.method)


def note(caller: Caller, error: Exception, log: RequestLog) -> None:
    """Counts and logs a refusal."""
    code = code_of(error)
    caller.counts.failed(code, time.perf_counter() - caller.arrived)
    if log.has_room():
        tell(caller, code, error, log)


def tell(caller: Caller, code: int, error: Exception, log: RequestLog) -> None:
    """Logs a refusal for which there is room."""
    reason = error.reason if isinstance(error, WeightcastError) else "INTERNAL"
    log.refused(caller, code_pb2.Code.Name(code), reason)
