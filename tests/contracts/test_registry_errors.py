"""What the registry refuses, by real calls: code, reason, the field or what to do, and that nothing is changed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from client.trainer_client import TrainerClient
from shared.pb.weightcast.v1 import model_pb2, training_pb2
from shared.pb.weightcast.v1 import model_registry_service_pb2 as pb

MODEL, LONELY, WAITING = "ruled", "lonely", "waiting"
CANARY = model_pb2.ModelRollout.MODE_CANARY
INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
WRONG_STATE, ABORTED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.ABORTED
TIMEOUT_SECONDS = 20.0
Reader = Callable[[grpc.RpcError], Any]


@dataclass(frozen=True)
class Bad:
    """A call that must be refused: with which code and reason, naming which fields, with which words."""

    name: str
    method: str
    request: dict[str, Any]
    code: grpc.StatusCode = INVALID
    reason: str = "INVALID_INPUT"
    fields: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def bad(name: str, method: str, *words: str, **request: Any) -> Bad:  # noqa: ANN401 - any field
    """A call whose request is wrong in one field, which is named as the first of the words."""
    return Bad(name, method, {"model": MODEL, **request}, fields=(words[0],), words=words[1:])


def missing(name: str, method: str, reason: str, *words: str, **request: Any) -> Bad:  # noqa: ANN401 - any field
    """A call for something that is not there."""
    return Bad(name, method, {"model": MODEL, **request}, NOT_FOUND, reason, words=words)


def forbidden(name: str, method: str, reason: str, *words: str, **request: Any) -> Bad:  # noqa: ANN401 - any field
    """A call for something that cannot be done as things are."""
    return Bad(name, method, {"model": MODEL, **request}, WRONG_STATE, reason, words=words)


def stale(name: str, method: str, *words: str, **request: Any) -> Bad:  # noqa: ANN401 - any field
    """A call with an etag that is not the alias's."""
    return Bad(name, method, {"model": MODEL, **request}, ABORTED, "ETAG_MISMATCH", words=(*words, "read"))


NOTES, LABELS, ALL = FieldMask(paths=["notes"]), FieldMask(paths=["labels"]), FieldMask(paths=["*"])
PROMOTE, ROLLBACK, HOLD, ALIAS = "PromoteModelVersion", "RollbackModel", "SetModelHold", "SetModelAlias"
TRY, END = "SetModelRollout", "EndModelRollout"
UPDATE, DELETE, PRUNE, CHANGES = "UpdateModelVersion", "DeleteModelVersion", "PruneModelVersions", "ListLiveChanges"
VERSIONS, GET = "ListModelVersions", "GetModelVersion"
LATER = "latest is 3"
WORD = "x"  # no page's token
TRYING = {"version": 2, "mode": CANARY, "percent": 10}
TRYING_FIRST = {**TRYING, "version": 1}
SHARES = (0.0, -0.1, 100.1, float("nan"), float("inf"))
UNKNOWN: dict[str, dict[str, Any]] = {
    PROMOTE: {"version": 1},
    ROLLBACK: {},
    HOLD: {"held": True},
    ALIAS: {"alias": "best", "version": 1},
    TRY: TRYING,
    END: {},
    UPDATE: {"version": 1, "update_mask": NOTES},
    DELETE: {"version": 1},
    PRUNE: {"keep_newest": 1},
    CHANGES: {},
    VERSIONS: {},
}
CALLS = [
    bad("an alias that is a number", ALIAS, "alias", "'7'", "version's number", "letter", alias="7", version=1),
    bad("no alias", ALIAS, "alias", "required", version=1),
    bad("an alias with a dot", ALIAS, "alias", "'a.b'", "a-z", alias="a.b", version=1),
    bad("an alias of 64", ALIAS, "alias", "63", alias="a" * 64, version=1),
    bad("pointing latest", ALIAS, "alias", "'latest'", "store", alias="latest", version=1),
    bad("removing live", ALIAS, "version", "0", "'live'", alias="live"),
    bad("a negative version", ALIAS, "version", "-1", alias="best", version=-1),
    bad("promoting nothing", PROMOTE, "version", "0", "1 or more"),
    bad("a long name", PROMOTE, "actor", "65", "64", version=1, actor="x" * 65),
    bad("a long reason", PROMOTE, "reason", "501", "500", version=1, reason="x" * 501),
    bad("a long reason back", ROLLBACK, "reason", "501", "500", reason="x" * 501),
    bad("a long reason to hold", HOLD, "reason", "501", "500", held=True, reason="x" * 501),
    *(
        bad(f"a share of {share}", TRY, "percent", f"got {share}", "more than 0", "100", **{**TRYING, "percent": share})
        for share in SHARES
    ),
    bad("no mode", TRY, "mode", "required", "MODE_CANARY or MODE_SHADOW", version=2, percent=10),
    bad("an unknown mode", TRY, "mode", "got 7", "MODE_CANARY or MODE_SHADOW", **{**TRYING, "mode": 7}),
    bad("trying nothing", TRY, "version", "0", "1 or more", mode=CANARY, percent=10),
    bad("a long name to try", TRY, "actor", "65", "64", **TRYING, actor="x" * 65),
    bad("a long reason to try", TRY, "reason", "501", "500", **TRYING, reason="x" * 501),
    bad("no mask", UPDATE, "update_mask", "nothing", "notes, labels, pinned", version=1, notes="x"),
    bad("everything", UPDATE, "update_mask", "*", "notes, labels, pinned", version=1, update_mask=ALL),
    bad("long notes", UPDATE, "notes", "4001", "4000", version=1, notes="x" * 4001, update_mask=NOTES),
    bad("a label's name", UPDATE, "labels['Team']", "a-z", version=1, labels={"Team": "x"}, update_mask=LABELS),
    bad("a label's value", UPDATE, "labels['a']", "201", version=1, labels={"a": "x" * 201}, update_mask=LABELS),
    bad(
        "many labels",
        UPDATE,
        "labels",
        "33",
        "32",
        version=1,
        labels={f"a{number}": "" for number in range(33)},
        update_mask=LABELS,
    ),
    bad("deleting nothing", DELETE, "version", "0", "1 or more"),
    bad("keeping none", PRUNE, "keep_newest", "0", "1 or more"),
    bad("keeping fewer", PRUNE, "keep_newest", "-1", "1 or more", keep_newest=-1, dry_run=True),
    bad("a negative page", CHANGES, "page_size", "-1", page_size=-1),
    bad("a bad token", CHANGES, "page_token", WORD, page_token=WORD),
    *(
        bad(f"{method} of no model", method, "model", "required", model="")
        for method in (PROMOTE, ROLLBACK, HOLD, ALIAS, TRY, END, DELETE, PRUNE, CHANGES)
    ),
    bad("an update of no model", UPDATE, "model", "required", model="", update_mask=NOTES),
    *(
        missing(f"{method} of an unknown model", method, "MODEL_NOT_FOUND", "nope", model="nope", **more)
        for method, more in UNKNOWN.items()
    ),
    missing("an unknown version", PROMOTE, "VERSION_NOT_FOUND", "4", LATER, version=4),
    missing("trying what is not there", TRY, "VERSION_NOT_FOUND", "4", LATER, **{**TRYING, "version": 4}),
    missing("an alias to nowhere", ALIAS, "VERSION_NOT_FOUND", "4", LATER, alias="best", version=4),
    missing("notes on nothing", UPDATE, "VERSION_NOT_FOUND", "4", LATER, version=4, update_mask=NOTES),
    missing("deleting what is not there", DELETE, "VERSION_NOT_FOUND", "4", LATER, version=4),
    missing("removing no alias", ALIAS, "ALIAS_NOT_FOUND", "'none'", alias="none"),
    missing("reading no alias", GET, "ALIAS_NOT_FOUND", "'none'", "best, latest, live", alias="none"),
    stale("a stale promotion", PROMOTE, "version 3", version=1, etag="1"),
    stale("a stale rollback", ROLLBACK, "version 3", etag="1"),
    stale("a stale alias", ALIAS, "version 1", alias="best", version=2, etag="1"),
    stale("a new alias that is there", ALIAS, "version 1", alias="best", version=2, etag="0"),
    stale("an alias that is gone", ALIAS, "does not exist", "'0'", alias="none", version=2, etag="9"),
    stale("a stale live", ALIAS, "version 3", alias="live", version=2, etag="1"),
    stale("a stale rollout", TRY, "version 1 on 12.5 %", "shadow", **TRYING, etag="1"),
    stale("a new rollout where one is", TRY, "version 1 on 12.5 %", **TRYING, etag="0"),
    stale("a stale end", END, "version 1 on 12.5 %", "shadow", etag="1"),
    stale("a rollout that has ended", TRY, "none now", "'0'", model=LONELY, **TRYING_FIRST, etag="1"),
    stale("the end of one that has ended", END, "none now", "'0'", model=LONELY, etag="1"),
    forbidden("trying the live version", TRY, "VERSION_IS_LIVE", "version 3", **{**TRYING, "version": 3}),
    forbidden("trying where none is live", TRY, "NO_LIVE_VERSION", PROMOTE, model=WAITING, **TRYING_FIRST),
    forbidden("ending no rollout", END, "NO_ROLLOUT", TRY, model=LONELY),
    forbidden("ending no rollout by its etag", END, "NO_ROLLOUT", TRY, model=LONELY, etag="0"),
    forbidden("deleting what is tried", DELETE, "VERSION_IN_USE", "tried by a rollout", END, version=1),
    forbidden("deleting the live version", DELETE, "VERSION_IN_USE", "live", "promote another", version=3),
    forbidden("deleting what has an alias", DELETE, "VERSION_IN_USE", "'best'", "SetModelAlias", version=1),
    forbidden("deleting what is pinned", DELETE, "VERSION_IN_USE", "pinned", "UpdateModelVersion", version=2),
    forbidden("no way back", ROLLBACK, "NO_PREVIOUS_VERSION", "PromoteModelVersion", model=LONELY),
]


@pytest.fixture(scope="module")
def ruled(trainer: TrainerClient) -> TrainerClient:
    """One model of three versions, the third live, the first `best` and tried, the second pinned; and two of a version.

    One of these has no live version.
    """
    manual = training_pb2.Promotion(policy=training_pb2.Promotion.POLICY_MANUAL)
    for model in (MODEL, MODEL, MODEL, LONELY, WAITING):
        spec = training_pb2.TrainingSpec(model=model, dataset="digits", epochs=1, seed=1)
        if model == WAITING:
            spec.promotion.CopyFrom(manual)
        job = trainer.wait(trainer.create_job(spec).id)
        assert job.version, job.error_message
    trainer.set_rollout(MODEL, 1, 12.5, shadow=True)
    trainer.registry.SetModelAlias(pb.SetModelAliasRequest(model=MODEL, alias="best", version=1))
    pin = FieldMask(paths=["pinned"])
    trainer.registry.UpdateModelVersion(
        pb.UpdateModelVersionRequest(model=MODEL, version=2, pinned=True, update_mask=pin)
    )
    return trainer


def everything(trainer: TrainerClient) -> list[Any]:
    """All that the refused calls could have changed."""
    registry = trainer.registry
    return [
        (
            registry.GetModel(pb.GetModelRequest(model=model)),
            registry.ListModelVersions(pb.ListModelVersionsRequest(model=model)),
            registry.ListLiveChanges(pb.ListLiveChangesRequest(model=model)),
        )
        for model in (MODEL, LONELY, WAITING)
    ]


@pytest.mark.parametrize("refused", CALLS, ids=lambda refused: refused.name)
def test_what_the_registry_refuses_changes_nothing(ruled: TrainerClient, refusal_of: Reader, refused: Bad) -> None:
    """Each has its code and reason and names its field, with what came and what is expected, or what to do."""
    before = everything(ruled)
    request = getattr(pb, f"{refused.method}Request")(**refused.request)
    with pytest.raises(grpc.RpcError) as caught:
        getattr(ruled.registry, refused.method)(request, timeout=TIMEOUT_SECONDS)
    refusal = refusal_of(caught.value)
    found = (refusal.code, refusal.reason, refusal.domain)
    assert found == (refused.code, refused.reason, "weightcast"), refusal.message
    assert tuple(refusal.violations) == refused.fields
    assert refusal.retry_seconds is None
    told = " ".join(refusal.violations.values()) if refused.fields else refusal.message
    assert [word for word in refused.words if word not in told] == [], told
    assert everything(ruled) == before
