"""What a request asks and what it is answered, in the domain's words, whichever protocol its bytes are written in.

A protocol reads a message once and says where in it the numbers stand; a message that differs in nothing but those
need not be read again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from typing import Protocol as Interface

from inference_service.callers import Caller
from inference_service.classifier import TopClasses
from inference_service.versions.rollouts import ActiveRollout
from inference_service.versions.snapshot_loader import ServedVersion
from shared.model_version import Manifest
from shared.network import FloatArray


@dataclass(frozen=True, slots=True)
class TensorNames:
    """What a protocol calls the parts of a tensor, for refusals that its users understand.

    `types` is from our names of the element types to theirs.
    """

    data_type: str = "tensor.data_type"
    shape: str = "tensor.shape"
    contents: str = "tensor.contents"
    top_k: str = "top_k"
    types: Mapping[str, str] = field(default_factory=lambda: {"UINT8": "UINT8", "FLOAT32": "FLOAT32"})


CLASSIFY_NAMES = TensorNames()


@dataclass(frozen=True, slots=True)
class TensorForm:
    """Everything about a tensor but its numbers; `data_type` is UINT8, FLOAT32 or what else was given."""

    data_type: str
    shape: tuple[int, ...]
    names: TensorNames = CLASSIFY_NAMES


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: `selector` is a version's number or an alias; without a form, the rows come as image files."""

    model: str
    selector: int | str
    form: TensorForm | None
    top_k: int = 1


class Answer(NamedTuple):
    """What one version, `served_by`, made of it; `probabilities` is float32 (rows, classes)."""

    top: TopClasses
    top_k: int
    probabilities: FloatArray
    served_by: ServedVersion


# The elements of a tensor, little-endian, row-major; or image files.
Contents = bytes | memoryview | tuple[bytes, ...]


@dataclass(slots=True, eq=False)
class Reading:
    """One message, understood.

    Attributes:
        question: what it asks.
        contents: the numbers, in the message's own memory where they stand there as they are needed.
        span: where the contents begin and end within the message, if a message with other bytes there, as many, and no
            other difference would be read the same; otherwise None.
        reply: encodes the answer; depends on nothing but what the message says outside its contents.
        checked_for: the manifest of the version that its form was found right for, if it was.
    """

    question: Question
    contents: Contents
    span: tuple[int, int] | None
    reply: Callable[[Answer], bytes]
    checked_for: Manifest | None = None


class Request(NamedTuple):
    """A reading whose form is right for the version that will answer.

    Attributes:
        reading: what is asked.
        contents: the numbers.
        served: the version that answers.
        rows: how many there are.
        caller: who waits.
        rollout: the rollout that the request is part of, in its share or not.
        other: where it is in the share, the version that computes it for comparison.
    """

    reading: Reading
    contents: Contents
    served: ServedVersion
    rows: int
    caller: Caller
    rollout: ActiveRollout | None = None
    other: ServedVersion | None = None


class Protocol(Interface):
    """A method that asks for classification, and how its messages are written."""

    method: str
    streaming: bool

    def read(self, message: bytes) -> Reading:
        """Understands a message.

        Raises:
            InvalidInputError: for what is wrong whatever the model is.
        """

    def refusal(self, why: str, message: bytes) -> bytes | None:
        """What a stream sends to say that `message` was refused; None if it ends with an error instead."""
