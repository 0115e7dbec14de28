"""What a contender is told, and what it answers, as both ends of the pipe know it. Loads no NumPy."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

Answer = Mapping[str, float | None]


@dataclass(frozen=True)
class Task:
    """What every contender of a group does alike: `network` is a preset, `optimizer` its name in a recipe.

    `variant` is one contender's own choice. The first `examples` of the training split are trained on.
    """

    network: str
    optimizer: str
    threads: int
    examples: int
    variant: str = ""

    def to_json(self) -> str:
        """For the command line of a process."""
        return json.dumps(asdict(self))
