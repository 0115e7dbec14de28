"""Data sets of openml.org, read through scikit-learn from a web server of the test's own that answers in its format.

That the real server still answers so cannot be tested without a network.
"""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from shared.errors import NotFoundError, UnavailableError, WeightcastError, WrongStateError
from trainer_service.datasets import openml
from trainer_service.datasets.openml import load_openml

ROWS = [f"{row},{row / 4 if row % 7 else '?'},{'tall' if row % 2 else 'small'}" for row in range(40)]
COLUMNS = [("size", "numeric"), ("weight", "numeric"), ("class", "nominal")]
TYPES = {"numeric": "REAL", "nominal": "{small,tall}"}


@dataclass
class OpenMl:
    """A server that knows one data set, `pets`, and what it was asked."""

    columns: list[tuple[str, str]] = field(default_factory=lambda: list(COLUMNS))
    rows: list[str] = field(default_factory=lambda: list(ROWS))
    targets: tuple[str, ...] = ("class",)
    row_count: int | None = None
    status: int | None = None
    paths: list[str] = field(default_factory=list)
    address: str = ""

    def answer(self, path: str) -> bytes | None:
        """The body for a path; None where nothing is found."""
        attributes = "".join(f"@ATTRIBUTE {name} {TYPES[kind]}\n" for name, kind in self.columns)
        arff = ("@RELATION pets\n" + attributes + "@DATA\n" + "\n".join(self.rows) + "\n").encode()
        rows = str(float(self.row_count or len(self.rows)))
        qualities = [
            {"name": "NumberOfInstances", "value": rows},
            {"name": "NumberOfFeatures", "value": str(len(self.columns))},
        ]
        found = {"did": 7, "name": "pets", "version": 1, "status": "active", "format": "ARFF", "quality": qualities}
        features = [
            {
                "index": str(index), "name": name, "data_type": kind, "is_target": str(name in self.targets).lower(),
                "is_ignore": "false", "is_row_identifier": "false", "number_of_missing_values": "0",
            }
            for index, (name, kind) in enumerate(self.columns)
        ]  # fmt: skip
        description = {
            "id": "7", "name": "pets", "version": "1", "format": "ARFF", "status": "active", "description": "Pets.",
            "url": f"{self.address}/pets.arff", "md5_checksum": hashlib.md5(arff).hexdigest(),  # noqa: S324 - openml's
        }  # fmt: skip
        if path == "/pets.arff":
            return arff
        for start, content in (
            ("/list/pets", {"data": {"dataset": [found]}}),
            ("/features/7", {"data_features": {"feature": features}}),
            ("/qualities/7", {"data_qualities": {"quality": qualities}}),
            ("/data/7", {"data_set_description": description}),
        ):
            if path.startswith(start):
                return json.dumps(content).encode()
        return None


class Handler(BaseHTTPRequestHandler):
    """Answers GET as openml.org does: 412 where there is nothing."""

    server_state: OpenMl

    def do_GET(self) -> None:
        """Sends what the state knows."""
        state = self.server_state
        state.paths.append(self.path)
        body = state.answer(self.path)
        if state.status or body is None:
            self.send_error(state.status or 412)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenMl]:
    """A running server, to which scikit-learn's and our addresses lead."""
    state = OpenMl()
    web = ThreadingHTTPServer(("127.0.0.1", 0), type("OwnHandler", (Handler,), {"server_state": state}))
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    state.address = f"http://127.0.0.1:{web.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(openml, "SEARCH", state.address + "/list/{}/limit/1")
    for name, path in (
        ("_SEARCH_NAME", "/list/{}/limit/2"),
        ("_DATA_INFO", "/data/{}"),
        ("_DATA_FEATURES", "/features/{}"),
        ("_DATA_QUALITIES", "/qualities/{}"),
    ):
        monkeypatch.setattr(f"sklearn.datasets._openml.{name}", state.address + path)
    yield state
    web.shutdown()
    thread.join()
    web.server_close()


def refusal(folder: Path, kind: type[WeightcastError], name: str = "openml:pets") -> str:
    """The message of the refusal, behind its reason."""
    with pytest.raises(kind) as raised:
        load_openml(name, folder)
    return f"{raised.value.reason}: {raised.value.message}"


def test_a_table_is_fetched_and_split(server: OpenMl, tmp_path: Path) -> None:
    """Numbers, gaps filled and counted, classes by name; upper case in the name is no matter."""
    dataset = load_openml("openml:Pets", tmp_path)
    assert (dataset.class_labels, dataset.preprocessing.input_shape) == (("small", "tall"), (2,))
    assert (len(dataset.train), len(dataset.test)) == (32, 8)
    assert [(column.name, column.missing_count) for column in dataset.columns] == [("size", 0), ("weight", 6)]
    assert dataset.preprocessing.feature_names == ("size", "weight")
    for split in (dataset.train, dataset.test):
        np.testing.assert_array_equal(split.class_ids, split.examples[:, 0] % 2)


def test_what_was_fetched_is_not_fetched_again(server: OpenMl, tmp_path: Path) -> None:
    """The second time nobody is asked, and the data set is the same."""
    first = load_openml("openml:pets", tmp_path)
    server.paths.clear()
    server.status = 500
    assert load_openml("openml:pets", tmp_path).digest == first.digest
    assert server.paths == []


def test_numbers_may_be_labels(server: OpenMl, tmp_path: Path) -> None:
    """If they are whole."""
    server.columns[2] = ("class", "numeric")
    server.rows = [f"{row},1,{row % 3}" for row in range(30)]
    assert load_openml("openml:pets", tmp_path).class_labels == ("0", "1", "2")


def test_a_name_that_is_not_there_is_not_found(server: OpenMl, tmp_path: Path) -> None:
    """openml.org says so by 412."""
    message = refusal(tmp_path, NotFoundError, "openml:cats")
    assert message == "DATASET_NOT_FOUND: openml.org has no active data set 'cats'; check the name"


@pytest.mark.parametrize("name", ["", "a b", "../../etc", "a/b", "%2e", "x" * 129, "é", "a?b"])
def test_what_can_be_no_name_is_not_asked_for(server: OpenMl, tmp_path: Path, name: str) -> None:
    """It neither leads to another address nor out of the folder."""
    assert "expected openml: and a name" in refusal(tmp_path, NotFoundError, f"openml:{name}")
    assert server.paths == []


@pytest.mark.parametrize("status", [500, 503])
def test_a_server_that_does_not_answer_is_unavailable(server: OpenMl, tmp_path: Path, status: int) -> None:
    """With what to do meanwhile."""
    server.status = status
    message = refusal(tmp_path, UnavailableError)
    assert message.startswith("DATASET_UNREACHABLE: openml:pets could not be fetched from openml.org")
    assert "upload the data as .csv, or choose the data set 'digits'" in message


def test_no_server_is_unavailable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Port 1 refuses every connection."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(openml, "SEARCH", "http://127.0.0.1:1/{}")
    assert refusal(tmp_path, UnavailableError).startswith("DATASET_UNREACHABLE: ")


def test_a_column_of_categories_is_named(server: OpenMl, tmp_path: Path) -> None:
    """Categories are no numbers, whatever scikit-learn makes of them."""
    server.columns[1] = ("weight", "nominal")
    server.rows = [f"{row},small,{'tall' if row % 2 else 'small'}" for row in range(20)]
    message = refusal(tmp_path, WrongStateError)
    assert message.startswith("DATASET_UNSUITABLE: openml:pets cannot be learned from: the column 'weight' holds categ")


def test_a_column_that_single_precision_would_level_is_named(server: OpenMl, tmp_path: Path) -> None:
    """A time in milliseconds, for one: it would arrive as one number."""
    server.rows = [f"{row},{1_700_000_000_000 + row},{'tall' if row % 2 else 'small'}" for row in range(20)]
    assert "cannot be learned from: the column 'weight' goes from 1700000000000 to 1700000000019: " in refusal(
        tmp_path, WrongStateError
    )


@pytest.mark.parametrize("targets", [(), ("class", "weight")])
def test_a_label_must_be_one(server: OpenMl, tmp_path: Path, targets: tuple[str, ...]) -> None:
    """Neither none nor two."""
    server.targets = targets
    server.columns[2] = ("class", "numeric")
    server.rows = [f"{row},1,{row % 3}" for row in range(30)]
    assert "it has no label, or more than one" in refusal(tmp_path, WrongStateError)


def test_a_measured_value_is_no_label(server: OpenMl, tmp_path: Path) -> None:
    """A regression is not for this trainer."""
    server.columns[2] = ("class", "numeric")
    server.rows = [f"{row},1,{row / 3}" for row in range(30)]
    assert "a measured value, not a class" in refusal(tmp_path, WrongStateError)


def test_what_is_too_large_is_not_fetched(server: OpenMl, tmp_path: Path) -> None:
    """The server says how many rows there are."""
    server.row_count = 10**9
    assert "got 1000000000 rows, expected at most 2000000" in refusal(tmp_path, WrongStateError)
    assert server.paths == ["/list/pets/limit/1"]
