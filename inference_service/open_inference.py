"""The words of the Open Inference Protocol for what is served here: tensors, their types, versions, parameters.

What requests are read by, what answers are written by and what metadata says are all taken from here, so they agree.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from inference_service.questions import TensorNames
from shared.errors import InvalidInputError
from shared.model_version import LIVE, Manifest
from shared.training_spec import name_violation

PLATFORM, BACKEND = "weightcast_mlp", "weightcast"
INPUT = "input"
PROBABILITIES, CLASS_IDS, SCORES = "probabilities", "class_ids", "scores"
OUTPUTS = {PROBABILITIES: "FP32", CLASS_IDS: "INT64", SCORES: "FP32"}  # with the type of each
BYTES = "BYTES"
# What metadata gives as the input's type. Some clients make their data from it, and feature values are what always
# fits; UINT8 is taken as well.
INPUT_DATATYPE = "FP32"
DATATYPES = {"FP32": "FLOAT32", "UINT8": "UINT8"}  # to our names
TYPED_CONTENTS = {"FP32": "fp32_contents", "UINT8": "uint_contents"}
BATCH = -1
LARGEST_VERSION = 2**63 - 1
CLASSIFICATION = "classification"
SHARED_MEMORY, SEQUENCE = "shared_memory_", "sequence_"


@dataclass(frozen=True, slots=True)
class AskedOutput:
    """An output to return; `best` is for how many classes as text, 0 for numbers."""

    name: str
    best: int = 0

    @property
    def datatype(self) -> str:
        """The type of its elements."""
        return BYTES if self.best else OUTPUTS[self.name]


ALL_OUTPUTS = tuple(AskedOutput(name) for name in OUTPUTS)


def names(contents: str) -> TensorNames:
    """What the parts of the input are called; `contents` is the field its elements came in."""
    theirs = {ours: theirs for theirs, ours in DATATYPES.items()}
    return TensorNames("inputs[0].datatype", "inputs[0].shape", contents, "outputs", theirs)


RAW_NAMES = names("raw_input_contents[0]")
TYPED_NAMES = {datatype: names(f"inputs[0].contents.{field}") for datatype, field in TYPED_CONTENTS.items()}


def input_shape(manifest: Manifest) -> list[int]:
    """The shape of one example."""
    return list(manifest.preprocessing.input_shape)


def output_shapes(manifest: Manifest) -> dict[str, list[int]]:
    """The shape of each output for one row: nothing, where a row has one number."""
    return {name: [manifest.architecture.class_count] if name == PROBABILITIES else [] for name in OUTPUTS}


def checked_name(name: str, field: str) -> str:
    """The name of a model, if it could be one.

    Raises:
        InvalidInputError: naming the field, if it could not.
    """
    if violation := name_violation(name, field, "model"):
        raise InvalidInputError(violation)
    return name


def selector_from(version: str, field: str) -> int | str:
    """A version's number or an alias, as `model_version` says it: digits are a number, nothing is the alias `live`.

    Raises:
        InvalidInputError: naming the field, if it is a number that no version can have.
    """
    if not version:
        return LIVE
    if not (version.isascii() and version.isdigit()):
        return version
    if len(version) > len(str(LARGEST_VERSION)) or int(version) > LARGEST_VERSION:
        raise InvalidInputError.of(field, f"got {version[:80]}, expected a version's number or an alias")
    return int(version)


def check_parameters(keys: Iterable[str], field: str) -> None:
    """Whether nothing is asked for that would change the answer and is not done here.

    Other parameters are a model's own by the protocol, and a model with no use for them passes them over.

    Raises:
        InvalidInputError: for parameters of shared memory and of sequences.
    """
    for key in keys:
        if key.startswith(SHARED_MEMORY):
            raise InvalidInputError.of(
                f"{field}[{key[:80]}]", "this server reads no shared memory; send the tensor in raw_input_contents"
            )
        if key.startswith(SEQUENCE):
            raise InvalidInputError.of(
                f"{field}[{key[:80]}]", "models here keep nothing between requests; leave the sequence's parameters out"
            )
