"""A job's spec made into one for the same job again, and what two jobs' surroundings differ in."""

from client.cli.layer_text import layers_of
from client.cli.reproducing import differences, same_spec
from shared.pb.weightcast.v1.training_pb2 import DenseNetwork, TrainingJob, TrainingSpec


def test_the_same_spec_publishes_nothing_and_leaves_the_first_as_it_is() -> None:
    """All else is kept."""
    spec = TrainingSpec(model="m", dataset="d", layers=layers_of("dense 3"), seed=0, epochs=2, publish=True)
    again = same_spec(spec)
    assert spec.publish
    assert again.HasField("publish")
    assert not again.publish
    assert (again.model, again.dataset, again.seed, again.epochs) == ("m", "d", 0, 2)
    assert list(again.layers) == list(spec.layers)
    assert not again.HasField("network")


def test_what_a_spec_has_none_of_does_not_become_the_presets() -> None:
    """No hidden layers, no augmentation: said in the new request, where leaving them out would mean the preset's."""
    again = same_spec(TrainingSpec(preset="lenet"))
    assert again.HasField("network")
    assert again.HasField("augmentation")
    assert again.HasField("schedule")
    older = same_spec(TrainingSpec(network=DenseNetwork(hidden_layer_sizes=[5])))
    assert list(older.network.hidden_layer_sizes) == [5]


def test_differences_name_what_is_not_the_same() -> None:
    """Data and libraries, those that only one has included."""
    first = TrainingJob(dataset_digest="a", library_versions={"numpy": "2", "python": "3", "blas": "x"})
    second = TrainingJob(dataset_digest="b", library_versions={"numpy": "3", "python": "3", "threads": "2"})
    assert differences(first, second) == {
        "dataset_digest": ("a", "b"),
        "blas": ("x", ""),
        "numpy": ("2", "3"),
        "threads": ("", "2"),
    }
    assert differences(first, first) == {}
