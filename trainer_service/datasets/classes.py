"""From labels to class ids, and from examples to a training and a held-out split that both have every class.

The held-out fifth is drawn with a fixed seed, so that the same file gives the same split everywhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInputError
from trainer_service.datasets.limits import MAX_CLASS_LABEL, MAX_CLASSES, MIN_CLASSES

TEST_SHARE = 5  # one example in five is held out
SPLIT_SEED = 0
NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", re.ASCII)
SHOWN = 5
ClassIds = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Classes:
    """The names of the classes in order, and the class id for each place in the list they were made from."""

    labels: tuple[str, ...]
    ids: ClassIds


def classes_of(found: Sequence[str], field: str = "chunk") -> Classes:
    """The classes behind the different labels `found`, in whatever order: by number if all are numbers, else by text.

    Labels that are one number written differently ("1", "1.0") are one class.

    Raises:
        InvalidInputError: naming `field`, where there are too few or too many, or one that cannot be shown.
    """
    if all(NUMBER.fullmatch(label) for label in found):
        values = [float(label) + 0.0 for label in found]  # + 0.0 turns -0 into 0
        order = sorted(set(values))
        labels = tuple(str(int(value)) if value.is_integer() else repr(value) for value in order)
        place = {value: index for index, value in enumerate(order)}
        ids = [place[value] for value in values]
    else:
        labels = tuple(sorted(set(found)))
        index_of = {label: index for index, label in enumerate(labels)}
        ids = [index_of[label] for label in found]
    check_class_count(len(labels), field)
    for label in labels:
        if len(label) > MAX_CLASS_LABEL or not label.isprintable() or not label:
            raise InvalidInputError.of(
                field, f"the label {label[:80]!r} must be 1 to {MAX_CLASS_LABEL} printable characters; rename the class"
            )
    return Classes(labels, np.array(ids, np.int64))


def check_class_count(count: int, field: str = "chunk") -> None:
    """Returns if so many classes can be told apart; InvalidInputError if not."""
    if count < MIN_CLASSES:
        raise InvalidInputError.of(field, f"there is {count} class, expected at least {MIN_CLASSES}")
    if count > MAX_CLASSES:
        raise InvalidInputError.of(
            field, f"there are more than {MAX_CLASSES} different labels; is this the label, or a measured value?"
        )


def hold_out(class_ids: ClassIds, labels: Sequence[str]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The rows to train on and the fifth of each class to hold out, both in a random order that never changes.

    Raises:
        InvalidInputError: naming the classes that have only one example.
    """
    counts = np.bincount(class_ids, minlength=len(labels))
    if single := [labels[index] for index in np.flatnonzero(counts < 2).tolist()]:  # noqa: PLR2004 - one for each split
        raise InvalidInputError.of(
            "chunk",
            f"{named(single)} only one example, and training and test split both need one; add examples of it or "
            f"leave it out",
        )
    held_out = np.maximum(1, counts // TEST_SHARE)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(class_ids))
    by_class = order[np.argsort(class_ids[order], kind="stable")]
    first_of_class = np.cumsum(counts) - counts
    rank = np.empty(len(class_ids), np.intp)  # the place of each row within its class
    rank[by_class] = np.arange(len(class_ids)) - first_of_class[class_ids[by_class]]
    is_test = rank[order] < held_out[class_ids[order]]
    return order[~is_test], order[is_test]


def check_both_splits(train: ClassIds, test: ClassIds, labels: Sequence[str]) -> None:
    """Returns if each class is in both splits of a file that brings its own; InvalidInputError naming it if not."""
    for name, class_ids in (("training", train), ("test", test)):
        counts = np.bincount(class_ids, minlength=len(labels))
        if missing := [labels[index] for index in np.flatnonzero(counts == 0).tolist()]:
            raise InvalidInputError.of(
                "chunk",
                f"{named(missing)} no example in the {name} split, and each class must be in both; move one there, or "
                f"send one x and y and let them be split",
            )


def named(labels: Sequence[str]) -> str:
    """`the class 'a' has`, or `the classes 'a', 'b' have`, and not more of them than fit a message."""
    shown = ", ".join(repr(label[:40]) for label in labels[:SHOWN])
    more = f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else ""
    return f"the class {shown} has" if len(labels) == 1 else f"the classes {shown}{more} have each"
