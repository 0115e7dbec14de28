"""The errors a domain may raise, one small tree. None knows of gRPC; `shared.grpc_errors` maps each class to a status.

Every error has a `reason` in UPPER_SNAKE_CASE that programs can match, and a message that tells people what came, what
was expected and what to do.
"""

from dataclasses import dataclass

RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class FieldViolation:
    """One field of a request that cannot be accepted: its path, and what came and what is expected."""

    field: str
    description: str


class WeightcastError(Exception):
    """Anything this product refuses or fails at, with a `reason` that programs can match."""

    reason = "INTERNAL"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class InvalidInputError(WeightcastError):
    """The request itself is wrong; sending it again cannot help. Names every bad field."""

    reason = "INVALID_INPUT"

    def __init__(self, *violations: FieldViolation, reason: str | None = None) -> None:
        super().__init__("; ".join(f"{v.field}: {v.description}" for v in violations), reason=reason)
        self.violations = violations

    @classmethod
    def of(cls, field: str, description: str) -> "InvalidInputError":
        """The common case of one bad field."""
        return cls(FieldViolation(field, description))


class NotFoundError(WeightcastError):
    """There is no such job, model, version or data set."""

    reason = "NOT_FOUND"


class WrongStateError(WeightcastError):
    """The thing exists, but its state does not allow what was asked."""

    reason = "WRONG_STATE"


class ConflictError(WeightcastError):
    """Somebody else changed the thing since the caller read it; read it again and decide anew."""

    reason = "CONFLICT"


class SnapshotRejectedError(WrongStateError):
    """A stored snapshot that must not be served; the reason says what is wrong with it."""

    reason = "SNAPSHOT_REJECTED"


class CapacityError(WeightcastError):
    """A bound on work is reached; safe to retry after `retry_seconds`."""

    reason = "CAPACITY_EXHAUSTED"
    retry_seconds = RETRY_SECONDS


class UnavailableError(WeightcastError):
    """Cannot be answered right now; safe to retry after `retry_seconds`."""

    reason = "UNAVAILABLE"
    retry_seconds = RETRY_SECONDS


class StoreUnavailableError(UnavailableError):
    """Redis cannot be reached or does not answer in time."""

    reason = "STORE_UNAVAILABLE"


class DeadlineExceededError(WeightcastError):
    """The caller's deadline passed before the work was begun; he has stopped waiting."""

    reason = "DEADLINE_EXCEEDED"


class CallerGoneError(WeightcastError):
    """The caller hung up before the work was begun; nobody reads this but the log and the metrics."""

    reason = "CALLER_GONE"


class CancelledError(WeightcastError):
    """A training job was told to stop; raised inside the worker, never sent to a client."""

    reason = "CANCELLED"
