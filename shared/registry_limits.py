"""What the registry takes from its callers, with the limits: aliases, names, reasons, notes, labels, shares.

Each function gives what is wrong, in the words of `weightcast.v1.ModelRegistryService`; `refuse` raises it together.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain

from shared.errors import FieldViolation, InvalidInputError
from shared.model_version import LATEST
from shared.rollout import ALL_PERCENT

MAX_ACTOR = 64
MAX_REASON = 500
MAX_NOTES = 4000
MAX_LABELS = 32
MAX_LABEL_VALUE = 200
MAX_ALIASES = 1000  # of a model, which is sent with all of them
SHOWN = 80  # characters of what came
ALIAS = re.compile(r"[a-z][a-z0-9-]{0,62}")
ALIAS_FORM = "1 to 63 of a-z, 0-9 and '-', starting with a letter"
LABEL_NAME = re.compile(r"[a-z0-9_.-]{1,63}")


def refuse(*violations: Iterable[FieldViolation]) -> None:
    """Raises an InvalidInputError with every violation, if there is one."""
    if found := list(chain(*violations)):
        raise InvalidInputError(*found)


def alias_violations(alias: str) -> Iterator[FieldViolation]:
    """What is wrong with the name of an alias that shall be pointed."""
    if not alias:
        yield FieldViolation("alias", f"required: {ALIAS_FORM}")
    elif alias == LATEST:
        yield FieldViolation("alias", "got 'latest', which belongs to the store; expected another name")
    elif not ALIAS.fullmatch(alias):
        why = ", which would be taken for a version's number" if alias.isdigit() else ""
        yield FieldViolation("alias", f"got {alias[:SHOWN]!r}{why}; expected {ALIAS_FORM}")


def version_violations(version: int, *, lowest: int = 1) -> Iterator[FieldViolation]:
    """What is wrong with a version's number."""
    if version < lowest:
        form = "1 or more" if lowest else "1 or more, or 0 to remove the alias"
        yield FieldViolation("version", f"got {version}, expected a version's number, {form}")


def asker_violations(actor: str, reason: str = "") -> Iterator[FieldViolation]:
    """What is wrong with who asks, and why."""
    yield from text_violations("actor", actor, MAX_ACTOR)
    yield from text_violations("reason", reason, MAX_REASON)


def annotation_violations(notes: str | None, labels: Mapping[str, str] | None) -> Iterator[FieldViolation]:
    """What is wrong with what shall be written about a version."""
    yield from text_violations("notes", notes or "", MAX_NOTES)
    if len(labels or {}) > MAX_LABELS:
        yield FieldViolation("labels", f"got {len(labels or {})}, expected at most {MAX_LABELS}")
    for name, value in sorted((labels or {}).items()):
        field = f"labels[{name[:SHOWN]!r}]"
        if not LABEL_NAME.fullmatch(name):
            yield FieldViolation(field, "expected a name of 1 to 63 of a-z, 0-9, '-', '_' and '.'")
        yield from text_violations(field, value, MAX_LABEL_VALUE)


def percent_violations(percent: float) -> Iterator[FieldViolation]:
    """What is wrong with the share of the requests that a version shall be tried on."""
    if not 0 < percent <= ALL_PERCENT:  # nor is a number that is none
        yield FieldViolation("percent", f"got {percent}, expected more than 0 and at most {ALL_PERCENT}")


def keep_violations(keep_newest: int) -> Iterator[FieldViolation]:
    """What is wrong with a number of versions to keep."""
    if keep_newest < 1:
        yield FieldViolation("keep_newest", f"got {keep_newest}, expected 1 or more: how many of the newest to keep")


def text_violations(field: str, text: str, most: int) -> Iterator[FieldViolation]:
    """What is wrong with a text that people read."""
    if len(text) > most:
        yield FieldViolation(field, f"got {len(text)} characters, expected at most {most}; shorten it")
