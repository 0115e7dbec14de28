"""Training that starts from a published version: which one is meant, whether it fits, and its weights.

A network means what it does only behind the preprocessing it was trained with, so that comes along.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from shared import snapshot_codec
from shared.errors import FieldViolation, InvalidInputError, NotFoundError
from shared.layers import Shape
from shared.model_version import Manifest
from shared.network import Network
from shared.store.model_store import ModelStore
from shared.training_spec import TrainingSpec, name_violation
from trainer_service.datasets.dataset import Dataset
from trainer_service.presets import SpecRequest

FIELD = "spec.parent"
LONGEST_NUMBER = 18  # digits; a longer one is no version's


@dataclass(frozen=True)
class Parent:
    """The version that training starts from."""

    version: int
    manifest: Manifest

    def violations(
        self, spec: TrainingSpec, input_shape: Shape | None, class_count: int | None
    ) -> Iterator[FieldViolation]:
        """What of a spec, and of a data set as far as it is known, does not fit the version."""
        architecture = self.manifest.architecture
        if spec.layers != architecture.layers[:-1]:
            yield FieldViolation(
                FIELD,
                f"version {self.version} has other hidden layers than the spec asks for; leave out the spec's layers "
                "and preset, or the parent",
            )
        if input_shape is not None and input_shape != self.manifest.preprocessing.input_shape:
            yield FieldViolation(
                FIELD,
                f"version {self.version} takes examples of shape {list(self.manifest.preprocessing.input_shape)}, the "
                f"data set's are {list(input_shape)}",
            )
        if class_count is not None and class_count != architecture.class_count:
            yield FieldViolation(
                FIELD,
                f"version {self.version} tells {architecture.class_count} classes apart, "
                f"the data set has {class_count}",
            )


def find_parent(models: ModelStore, request: SpecRequest) -> Parent | None:
    """The version that a request names, if it names one.

    Raises:
        NotFoundError: if there is no such model, version or alias.
        SnapshotRejectedError: if it cannot be read.
    """
    if not request.parent or name_violation(request.model, "spec.model", "model"):
        return None
    is_number = request.parent.isascii() and request.parent.isdigit() and len(request.parent) <= LONGEST_NUMBER
    selector = int(request.parent) if is_number else request.parent[:80]
    try:
        published = models.version(request.model, selector, with_weights=False)
    except NotFoundError as error:
        raise NotFoundError(f"{FIELD}: {error.message}", reason=error.reason) from error
    return Parent(published.ref.version, snapshot_codec.decode_manifest(published.snapshot.manifest))


def with_layers_of(parent: Parent, request: SpecRequest) -> SpecRequest:
    """The request with the parent's layers and preset, unless it names its own."""
    if request.preset or "layers" in request.given:
        return request
    given = {"layers": parent.manifest.architecture.layers[:-1], **request.given}
    return replace(request, preset=parent.manifest.provenance.spec.preset, given=given)


def load_parent(models: ModelStore, spec: TrainingSpec, dataset: Dataset) -> tuple[Network, Dataset]:
    """The parent's network, and the data set with its preprocessing.

    Raises:
        NotFoundError: if the version is gone.
        SnapshotRejectedError: if it cannot be trusted.
        InvalidInputError: if it does not fit the data set.
    """
    decoded = snapshot_codec.decode(models.version(spec.model, spec.parent).snapshot)
    manifest, own = decoded.manifest, dataset.preprocessing
    parent = Parent(spec.parent, manifest)
    if violations := list(parent.violations(spec, own.input_shape, len(dataset.class_labels))):
        raise InvalidInputError(*violations)
    if manifest.class_labels != dataset.class_labels or manifest.preprocessing.feature_names != own.feature_names:
        raise InvalidInputError.of(
            FIELD, f"version {spec.parent} has other class labels or features than the data set {dataset.name!r}"
        )
    return decoded.network, replace(dataset, preprocessing=manifest.preprocessing)
