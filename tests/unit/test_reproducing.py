"""A job's spec made into one for the same job again, and what two jobs' surroundings differ in."""

import pytest

from client.cli.layer_text import layers_of
from client.cli.reproducing import differences, same_spec
from shared.layers import Activation, Dense, Flatten, Layer
from shared.pb.weightcast.v1 import training_pb2 as pb
from shared.spec_codec import spec_to_proto
from shared.training_spec import TrainingSpec
from trainer_service.spec_request import spec_request


def test_the_same_spec_publishes_nothing_and_leaves_the_first_as_it_is() -> None:
    """All else is kept."""
    spec = pb.TrainingSpec(model="m", dataset="d", layers=layers_of("dense 3"), seed=0, epochs=2, publish=True)
    again = same_spec(spec)
    assert spec.publish
    assert again.HasField("publish")
    assert not again.publish
    assert (again.model, again.dataset, again.seed, again.epochs) == ("m", "d", 0, 2)
    assert list(again.layers) == list(spec.layers)
    assert not again.HasField("network")


@pytest.mark.parametrize("layers", [(), (Flatten(), Dense(5, Activation.TANH))])
def test_what_a_spec_has_none_of_does_not_become_the_presets(layers: tuple[Layer, ...]) -> None:
    """No hidden layers, no augmentation, a constant rate: what the service says of a job asks it for the same again."""
    spec = TrainingSpec(model="m", dataset="d", seed=0, preset="lenet", layers=layers)
    answered = pb.TrainingSpec.FromString(spec_to_proto(spec).SerializeToString())
    request = spec_request(same_spec(answered))
    assert request.violations == ()
    assert request.given["layers"] == layers
    assert request.given["augmentation"] == spec.augmentation
    assert request.given["schedule"] == spec.schedule
    assert request.given["publish"] is False


def test_differences_name_what_is_not_the_same() -> None:
    """Data and libraries, those that only one has included."""
    first = pb.TrainingJob(dataset_digest="a", library_versions={"numpy": "2", "python": "3", "blas": "x"})
    second = pb.TrainingJob(dataset_digest="b", library_versions={"numpy": "3", "python": "3", "threads": "2"})
    assert differences(first, second) == {
        "dataset_digest": ("a", "b"),
        "blas": ("x", ""),
        "numpy": ("2", "3"),
        "threads": ("", "2"),
    }
    assert differences(first, first) == {}
