"""What `weightcast rollouts show` and `models show` say of a rollout, whatever the inference service knows of it."""

import io
from datetime import UTC, datetime

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from rich.console import Console

from client.cli.rollout_view import rollout_text, show_rollout
from client.cli.version_view import is_in_rollout, show_origin
from shared.pb.weightcast.v1.inference_service_pb2 import (
    LoadedVersion,
    LoadFailure,
    ModelStatus,
    RolloutFigures,
    RolloutStatus,
)
from shared.pb.weightcast.v1.model_pb2 import Model, ModelRollout, ModelVersion


def at(hour: int) -> Timestamp:
    """A moment on the first of July."""
    stamp = Timestamp()
    stamp.FromDatetime(datetime(2026, 7, 1, hour, tzinfo=UTC))
    return stamp


CANARY = ModelRollout(
    version=8,
    mode=ModelRollout.MODE_CANARY,
    percent=12.5,
    etag="9",
    actor="me@here",
    reason="owls [at] night",
    create_time=at(10),
    update_time=at(10),
)
MODEL = Model(name="m", live_version=7, latest_version=9, rollout=CANARY)
ACTIVE = RolloutStatus(
    rollout=CANARY,
    state=RolloutStatus.STATE_ACTIVE,
    live=RolloutFigures(requests=7000, rows=70_001, mean_compute_time=Duration(nanos=123_456)),
    candidate=RolloutFigures(requests=1000, rows=10_002, mean_compute_time=Duration(nanos=98_000)),
    compared_rows=10_000,
    agreed_rows=9_931,
    dropped_requests=3,
)


def shown(model: Model, status: ModelStatus | None) -> str:
    """What a terminal of 80 columns shows, on one line."""
    console = Console(file=io.StringIO(), width=80)
    show_rollout(console, model, status)
    return " ".join(console.file.getvalue().split())  # type: ignore[attr-defined]


def serving(rollout: RolloutStatus | None) -> ModelStatus:
    """What the inference service says, which serves version 7."""
    return ModelStatus(model="m", live=LoadedVersion(version=7), rollout=rollout)


def changed(**fields: object) -> RolloutStatus:
    """What it says of the rollout, with some of it otherwise."""
    status = RolloutStatus()
    status.CopyFrom(ACTIVE)
    status.MergeFrom(RolloutStatus(**fields))  # type: ignore[arg-type]
    return status


def test_both_versions_stand_side_by_side() -> None:
    """With what was compared, what was not, and how often both agreed."""
    text = shown(MODEL, serving(ACTIVE))
    for words in (
        "m: version 8 is tried on 12.5% of the requests, and answers them",
        "live version 7",
        "since, UTC Jul 01, 10:00:00",
        "by me@here reason owls [at] night",
        "live candidate",
        "version 7 8",
        "requests 7,000 1,000",
        "rows 70,001 10,002",
        "mean compute time 0.123 ms 0.098 ms",
        "rows compared 10,000 agreement 99.31%",
        "requests dropped 3, which were not compared",
    ):
        assert words in text, text
    for words in ("changed", "not taken", "not be loaded"):
        assert words not in text, text


def test_a_shadow_is_told_from_a_canary() -> None:
    """By who answers; the share as it was typed."""
    shadow = ModelRollout(version=8, mode=ModelRollout.MODE_SHADOW, percent=0.001)
    assert rollout_text(shadow) == "version 8 is tried on 0.001% of the requests, which the live version answers"


def test_before_the_first_request_no_figure_is_made_up() -> None:
    """Neither a time nor an agreement."""
    text = shown(MODEL, serving(RolloutStatus(rollout=CANARY, state=RolloutStatus.STATE_ACTIVE)))
    for words in ("requests 0 0", "mean compute time – –", "rows compared none yet", "requests dropped none"):
        assert words in text, text
    assert "agreement" not in text


def test_a_candidate_that_could_not_be_loaded_is_told_with_the_reason() -> None:
    """And who answers meanwhile, and when it is tried again."""
    failure = LoadFailure(version=8, reason="DIGEST_MISMATCH", message="got [a], expected b", retry_time=at(11))
    text = shown(MODEL, serving(changed(state=RolloutStatus.STATE_FAILED, failure=failure)))
    told = (
        "version 8 could not be loaded, so the live version answers everything: DIGEST_MISMATCH: got [a], expected b; "
        "it is tried again at Jul 01, 11:00:00 UTC"
    )
    assert told in text
    assert "requests 7,000 1,000" in text


def test_a_share_that_was_changed_says_when() -> None:
    """Beside when it began."""
    model = Model(name="m", live_version=7, rollout=CANARY)
    model.rollout.update_time.CopyFrom(at(12))
    text = shown(model, serving(ACTIVE))
    assert "since, UTC Jul 01, 10:00:00 changed, UTC Jul 01, 12:00:00" in text


@pytest.mark.parametrize(
    ("model", "served", "words"),
    [
        (MODEL, None, "has not taken it up yet"),
        (
            MODEL,
            changed(rollout=ModelRollout(percent=5, etag="8")),
            "has not taken this up yet; there, version 8 is tried on 5% of the requests, and answers them",
        ),
        (Model(name="m", live_version=7), ACTIVE, "has not taken this up yet; there, version 8 is tried on 12.5%"),
    ],
)
def test_an_inference_service_that_is_behind_is_told(model: Model, served: RolloutStatus | None, words: str) -> None:
    """With what it does still."""
    assert words in shown(model, serving(served))


def test_where_nothing_is_tried_it_says_what_answers() -> None:
    """And nothing else."""
    assert shown(Model(name="m", live_version=7), serving(None)) == "m has no rollout: version 7 answers everything"
    assert shown(Model(name="m"), serving(None)) == "m has no rollout: no version is live"


def test_without_the_inference_service_the_rest_is_shown() -> None:
    """What the registry knows."""
    text = shown(MODEL, None)
    assert text.startswith("m: version 8 is tried on 12.5% of the requests")
    assert text.endswith("reason owls [at] night")


@pytest.mark.parametrize(("version", "is_told"), [(7, True), (8, True), (9, False)])
def test_a_version_says_whether_the_rollout_is_about_it(version: int, *, is_told: bool) -> None:
    """The one that is tried, and the one that it is tried beside."""
    found = ModelVersion(model="m", version=version)
    console = Console(file=io.StringIO(), width=80)
    show_origin(console, found, MODEL)
    told = "rollout          version 8 is tried on 12.5% of the requests"
    assert (told in console.file.getvalue()) == is_in_rollout(found, MODEL) == is_told  # type: ignore[attr-defined]
    assert not is_in_rollout(found, Model(name="m", live_version=7))
