"""What a training job may be told: the ends of every range, and every bad field named at once."""

import math
from dataclasses import replace

import pytest

from shared.errors import InvalidInputError
from shared.training_spec import TrainingSpec, checked_model_name

GOOD = TrainingSpec("mnist", "digits", seed=0)


def violations(**changes: object) -> dict[str, str]:
    """Each bad field with what is wrong with it."""
    return {found.field: found.description for found in replace(GOOD, **changes).violations()}  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model": "a"},
        {"model": "0-a"},
        {"model": "a" * 63},
        {"hidden_layer_sizes": ()},
        {"hidden_layer_sizes": (1,) * 16},
        {"hidden_layer_sizes": (8192, 1)},
        {"epochs": 1},
        {"epochs": 1000},
        {"batch_size": 1},
        {"batch_size": 65536},
        {"learning_rate": 10.0},
        {"learning_rate": 1e-12},
        {"seed": 0},
        {"seed": 2**63 - 1},
    ],
    ids=str,
)
def test_everything_within_the_limits_can_be_trained(changes: dict[str, object]) -> None:
    """Both ends of every range."""
    assert violations(**changes) == {}


@pytest.mark.parametrize(
    ("name", "value", "field", "description"),
    [
        ("epochs", 0, "spec.epochs", "got 0, expected 1 to 1000"),
        ("epochs", 1001, "spec.epochs", "got 1001, expected 1 to 1000"),
        ("epochs", -1, "spec.epochs", "got -1, expected 1 to 1000"),
        ("batch_size", 0, "spec.batch_size", "got 0, expected 1 to 65536"),
        ("batch_size", 65537, "spec.batch_size", "got 65537, expected 1 to 65536"),
        ("learning_rate", 0.0, "spec.learning_rate", "got 0, expected more than 0 and at most 10"),
        ("learning_rate", -0.1, "spec.learning_rate", "got -0.1, expected more than 0 and at most 10"),
        ("learning_rate", 10.5, "spec.learning_rate", "got 10.5, expected more than 0 and at most 10"),
        ("learning_rate", math.nan, "spec.learning_rate", "got nan, expected more than 0 and at most 10"),
        ("learning_rate", math.inf, "spec.learning_rate", "got inf, expected more than 0 and at most 10"),
        ("seed", -1, "spec.seed", "got -1, expected 0 to 9223372036854775807"),
        ("seed", 2**63, "spec.seed", "got 9223372036854775808, expected 0 to 9223372036854775807"),
        ("dataset", "", "spec.dataset", "required: the name of a data set, see ListDatasets"),
        ("model", "", "spec.model", "required: the model's name"),
        (
            "hidden_layer_sizes",
            (64, 0),
            "spec.network.hidden_layer_sizes[1]",
            "got 0 units, expected 1 to 8192",
        ),
        (
            "hidden_layer_sizes",
            (1_000_000,),
            "spec.network.hidden_layer_sizes[0]",
            "got 1000000 units, expected 1 to 8192",
        ),
        ("hidden_layer_sizes", (1,) * 17, "spec.network.hidden_layer_sizes", "got 17 layers, expected at most 16"),
    ],
)
def test_what_is_out_of_range_is_named(name: str, value: object, field: str, description: str) -> None:
    """The field's path in the request, what came and what is expected."""
    assert violations(**{name: value}) == {field: description}


@pytest.mark.parametrize("name", ["-a", "A", "a_b", "a.b", "a b", "ä", "a" * 64, "a/b", "{a}", "a\n", "a:b"])
def test_a_name_that_no_key_could_carry_is_refused(name: str) -> None:
    """Names go into keys, file names and health checks, so only plain ones are taken."""
    (description,) = violations(model=name).values()
    assert description.startswith(f"got {name!r}, expected 1 to 63 of a-z, 0-9 and '-'")


def test_every_bad_field_is_named_at_once() -> None:
    """One answer mends them all."""
    found = violations(model="", dataset="", hidden_layer_sizes=(0, 4, 0), epochs=0, batch_size=0, learning_rate=0.0)
    assert list(found) == [
        "spec.model",
        "spec.dataset",
        "spec.network.hidden_layer_sizes[0]",
        "spec.network.hidden_layer_sizes[2]",
        "spec.epochs",
        "spec.batch_size",
        "spec.learning_rate",
    ]


def test_a_long_name_is_cut_in_the_message() -> None:
    """What a client sends does not come back whole."""
    (description,) = violations(model="x" * 10_000).values()
    assert len(description) < 200


def test_a_requests_model_is_checked_by_the_same_rule() -> None:
    """With the field of that request."""
    assert checked_model_name("mnist") == "mnist"
    with pytest.raises(InvalidInputError, match="model: required"):
        checked_model_name("")
