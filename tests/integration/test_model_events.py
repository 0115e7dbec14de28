"""What wakes the inference service: events on a real Redis stream, none lost between following and waiting."""

import threading
from collections.abc import Callable

from shared.model_version import StoredSnapshot
from shared.store.connection import SOCKET_TIMEOUT_SECONDS, StoreConnection
from shared.store.model_events import ModelEvents
from shared.store.model_store import ModelStore

Snapshots = Callable[..., StoredSnapshot]
LONG_SECONDS, SHORT_SECONDS = 4.0, 0.05


def test_a_publication_between_follow_and_wait_is_not_lost(
    connection: StoreConnection, models: ModelStore, snapshot: Snapshots
) -> None:
    """It wakes the wait that comes after it, once."""
    models.publish("tiny", snapshot(seed=1), "a")
    events = ModelEvents(connection)
    events.follow(["tiny"])
    models.publish("tiny", snapshot(seed=2), "b")
    assert events.wait(LONG_SECONDS)
    assert not events.wait(SHORT_SECONDS)


def test_what_was_published_before_follow_does_not_wake(
    connection: StoreConnection, models: ModelStore, snapshot: Snapshots
) -> None:
    """The history is not replayed, and following again forgets nothing that came since."""
    models.publish("tiny", snapshot(seed=1), "a")
    events = ModelEvents(connection)
    events.follow(["tiny"])
    assert not events.wait(SHORT_SECONDS)
    models.publish("tiny", snapshot(seed=2), "b")
    events.follow(["tiny"])
    assert events.wait(LONG_SECONDS)


def test_a_wait_under_way_wakes_for_a_publication(
    connect: Callable[[], StoreConnection], models: ModelStore, snapshot: Snapshots
) -> None:
    """Whoever blocks is woken by another connection's publication."""
    models.publish("tiny", snapshot(seed=1), "a")
    events = ModelEvents(connect())
    events.follow(["tiny"])
    woken: list[bool] = []
    waiting = threading.Thread(target=lambda: woken.append(events.wait(LONG_SECONDS)))
    waiting.start()
    models.publish("tiny", snapshot(seed=2), "b")
    waiting.join()
    assert woken == [True]


def test_a_model_that_nobody_knew_wakes_too(
    connection: StoreConnection, models: ModelStore, snapshot: Snapshots
) -> None:
    """The first publication of a model wakes whoever follows none or others."""
    events = ModelEvents(connection)
    events.follow([])
    models.publish("new", snapshot("new"), "a")
    assert events.wait(LONG_SECONDS)


def test_time_that_passes_without_a_publication_is_told(connection: StoreConnection) -> None:
    """A quiet store is not an absent one: the wait returns False."""
    events = ModelEvents(connection)
    events.follow([])
    assert events.wait(SHORT_SECONDS) is False


def test_a_quiet_store_is_not_an_absent_one_however_long_the_wait(connection: StoreConnection) -> None:
    """The reconcile interval may be up to 60 s; a wait longer than the socket's time-out returns False too."""
    events = ModelEvents(connection)
    events.follow([])
    assert events.wait(SOCKET_TIMEOUT_SECONDS + 0.5) is False
