"""The Lua scripts on a model's keys. Each runs atomically; a change happens once, however often it is sent.

A script is its file behind `model.lua`, which names the keys; a change ends with `once.lua`.
"""

import uuid
from importlib.resources import files
from typing import Any

from shared.store.connection import Argument, StoreConnection
from shared.store.keys import ModelKeys


class ModelScript:
    """The script `name`.lua as a function of a model and its arguments."""

    def __init__(self, connection: StoreConnection, name: str) -> None:
        self._run = connection.lua(self._text(name))

    def __call__(self, model: str, *arguments: Argument) -> Any:  # noqa: ANN401 - a reply's type depends on the script
        """Runs it and returns its reply.

        Raises:
            StoreUnavailableError: if Redis cannot be reached or cannot take it.
        """
        return self._run(self._keys(model), arguments)

    def _keys(self, model: str) -> tuple[str, ...]:
        return ModelKeys(model).in_order()

    def _text(self, name: str) -> str:
        return f"{source('model')}\n{source(name)}"


class ModelChange(ModelScript):
    """A script that changes a model. Its first reply is a word: `done`, or why it did nothing.

    The client of Redis sends a command again whose reply did not come. Each call has a receipt, by which the store
    knows that it did this already.
    """

    def _keys(self, model: str) -> tuple[str, ...]:
        keys = ModelKeys(model)
        return (*keys.in_order(), keys.receipt(uuid.uuid4().hex))

    def _text(self, name: str) -> str:
        return f"{source('model')}\nlocal function change()\n{source(name)}\nend\n{source('once')}"


def source(name: str) -> str:
    """A script's file."""
    return files("shared.store").joinpath(f"{name}.lua").read_text(encoding="utf-8")
