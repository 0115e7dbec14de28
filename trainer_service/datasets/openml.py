"""Data sets of openml.org by name, through scikit-learn: tables of numbers with one label.

What was fetched once is read from the cache from then on. The first look at the server is this module's own, with a
time limit that scikit-learn does not set, so that a network which swallows packets is noticed in seconds. Offline, the
tests speak to a server of their own that answers in openml.org's format; that the real one still does is not tested.
"""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import requests
import structlog

from shared.errors import InvalidInputError, NotFoundError, UnavailableError, WrongStateError
from trainer_service.datasets.classes import classes_of
from trainer_service.datasets.dataset import Dataset
from trainer_service.datasets.limits import MAX_CLASSES, MAX_VALUE
from trainer_service.datasets.table import check_precision, check_table_size, held_out_table

PREFIX = "openml:"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.()+-]{0,127}", re.ASCII)
SEARCH = "https://www.openml.org/api/v1/json/data/list/data_name/{}/limit/1/status/active/"
TIMEOUT_SECONDS = (5, 30)  # to connect, and between two reads
NO_RESULTS = 412  # how openml.org says that nothing was found
FETCHED = "fetched"  # a file in a data set's folder that says all of it is there
DESCRIPTION = "{} of openml.org, the version that is active there."
log = structlog.get_logger()


def checked_name(dataset: str) -> str:
    """The name on openml.org in "openml:NAME", in lower case as scikit-learn has it.

    Raises:
        NotFoundError: DATASET_NOT_FOUND, if nothing there can have it.
    """
    name = dataset.removeprefix(PREFIX)
    if not NAME.fullmatch(name):
        raise NotFoundError(
            f"there can be no data set {dataset[:80]!r}; expected {PREFIX} and a name on openml.org, such as "
            f"{PREFIX}credit-g",
            reason="DATASET_NOT_FOUND",
        )
    return name.lower()


def load_openml(dataset: str, cache_dir: Path) -> Dataset:
    """The data set "openml:NAME", a fifth of it held out.

    Raises:
        NotFoundError: DATASET_NOT_FOUND.
        UnavailableError: DATASET_UNREACHABLE.
        WrongStateError: DATASET_UNSUITABLE, if it is no table of numbers with one label, with the reason.
    """
    name = checked_name(dataset)
    folder = cache_dir.expanduser() / "openml" / name
    try:
        if not (folder / FETCHED).exists():
            look_up(dataset, name)
        bunch = fetched(name, folder)
    except (URLError, requests.RequestException, TimeoutError, ConnectionError) as error:
        raise UnavailableError(
            f"{dataset} could not be fetched from openml.org: {error}; try again, upload the data as .csv, or choose "
            f"the data set 'digits', which needs no network",
            reason="DATASET_UNREACHABLE",
        ) from error
    except (ValueError, LookupError, TypeError) as error:  # scikit-learn's, of a column of text or an odd answer
        raise unsuitable(dataset, str(error)) from error
    try:
        return table_of(dataset, bunch)
    except InvalidInputError as error:
        raise unsuitable(dataset, error.violations[0].description) from error


def look_up(dataset: str, name: str) -> None:
    """Returns if openml.org has an active data set of this name, and it is not too large.

    Raises:
        NotFoundError: if there is none.
        WrongStateError: if it is too large.
        requests.RequestException: if the server does not answer.
    """
    answer = requests.get(SEARCH.format(name), timeout=TIMEOUT_SECONDS)
    if answer.status_code in (NO_RESULTS, requests.codes.not_found):
        raise NotFoundError(f"openml.org has no active data set {name!r}; check the name", reason="DATASET_NOT_FOUND")
    answer.raise_for_status()
    try:
        found = answer.json()["data"]["dataset"][0]
        qualities = {quality["name"]: int(float(quality["value"])) for quality in found.get("quality", ())}
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise requests.RequestException(f"its answer cannot be read: {error!r}") from error
    try:
        check_table_size(qualities.get("NumberOfInstances", 0), max(1, qualities.get("NumberOfFeatures", 1) - 1))
    except InvalidInputError as error:
        raise unsuitable(dataset, error.violations[0].description) from error


def fetched(name: str, folder: Path) -> Mapping[str, Any]:
    """What scikit-learn makes of the data set, from `folder` or from the network."""
    from sklearn.datasets import fetch_openml  # noqa: PLC0415 - slow, and few need it

    folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        bunch: Mapping[str, Any] = fetch_openml(
            name, data_home=folder, as_frame=False, parser="liac-arff", n_retries=1, delay=0.5
        )
    for warning in noted:
        log.warning("while fetching from openml.org", dataset=name, warning=str(warning.message))
    (folder / FETCHED).touch()
    return bunch


def table_of(dataset: str, bunch: Mapping[str, Any]) -> Dataset:
    """A data set from scikit-learn's arrays.

    Raises:
        InvalidInputError: if it is none that can be learned here.
    """
    values, target, names = bunch["data"], bunch["target"], list(bunch["feature_names"])
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu":
        raise InvalidInputError.of("data", "it is sparse or holds text, expected a dense table of numbers")
    if categorical := [name for name in names if name in (bunch["categories"] or {})]:
        raise InvalidInputError.of(
            "data", f"the column {categorical[0]!r} holds categories, expected numbers; upload it with them as numbers"
        )
    check_table_size(*values.shape)
    if target is None or target.ndim != 1:
        raise InvalidInputError.of("target", "it has no label, or more than one")
    if not (np.isnan(values) | (np.abs(values) <= MAX_VALUE)).all():
        raise InvalidInputError.of("data", f"it holds values beyond {MAX_VALUE:g}")
    check_precision(values, names)
    labels = label_texts(target)
    found, place = np.unique(labels, return_inverse=True)
    classes = classes_of([str(label) for label in found[: MAX_CLASSES + 1]], "target")
    return held_out_table(dataset, values.astype(np.float32), classes.ids[place], classes.labels, names)


def label_texts(target: np.ndarray) -> np.ndarray:
    """Each row's label as text; InvalidInputError where one is missing or is a measured value."""
    if target.dtype.kind in "fiu":
        if not np.isfinite(target).all() or (target != np.rint(target)).any():
            raise InvalidInputError.of(
                "target", "the label is missing in some rows or is a measured value, not a class"
            )
        target = target.astype(np.int64)
    elif any(label is None for label in target):
        raise InvalidInputError.of("target", "the label is missing in some rows")
    return target.astype(str)


def unsuitable(dataset: str, why: str) -> WrongStateError:
    """The refusal of a data set that is there and cannot be learned from."""
    return WrongStateError(f"{dataset} cannot be learned from: {why}", reason="DATASET_UNSUITABLE")
