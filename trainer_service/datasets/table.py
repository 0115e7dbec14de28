"""From a table of numbers with gaps to a data set: float32 columns, gaps filled, and what standardises them.

Means, deviations and what fills a gap come from the training split alone, so the held-out rows stay unseen. Sums are
taken in double precision, some rows at a time.
"""

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInputError
from shared.network import FloatArray
from shared.preprocessing import Preprocessing, Standardisation
from trainer_service.datasets.classes import ClassIds, hold_out
from trainer_service.datasets.dataset import Column, Dataset, Split
from trainer_service.datasets.limits import MAX_COLUMNS, MAX_DECODED_BYTES, MAX_ROWS, MAX_VALUE

BLOCK_VALUES = 2**20
MOST_LOST = 0.01  # of a column's deviation, by rounding it to single precision
VALUE_BYTES = 8
DoubleArray = npt.NDArray[np.float64]


def check_table_size(rows: int, columns: int) -> None:
    """Returns if a table of this size can be taken; InvalidInputError with both numbers if not."""
    if not 1 <= columns <= MAX_COLUMNS:
        raise InvalidInputError.of("chunk", f"got {columns} feature columns, expected 1 to {MAX_COLUMNS}")
    if rows > MAX_ROWS:
        raise InvalidInputError.of("chunk", f"got {rows} rows, expected at most {MAX_ROWS}; send a sample")
    most = MAX_DECODED_BYTES // VALUE_BYTES
    if rows * columns > most:
        raise InvalidInputError.of(
            "chunk", f"got {rows} rows × {columns} columns, expected at most {most} values; send a sample"
        )


def held_out_table(
    name: str, values: FloatArray, class_ids: ClassIds, labels: tuple[str, ...], columns: Sequence[str] = ()
) -> Dataset:
    """A data set of float32 `values` (rows, columns), NaN where missing, a fifth of each class held out.

    `columns` are their names; without them they are told apart by their places.
    """
    train, test = hold_out(class_ids, labels)
    return table_dataset(
        name, Split(values[train], class_ids[train]), Split(values[test], class_ids[test]), labels, columns
    )


def table_dataset(
    name: str, train: Split, test: Split, labels: tuple[str, ...], column_names: Sequence[str] = ()
) -> Dataset:
    """A data set of two splits of float32 values, NaN where missing; the gaps are filled in place.

    Raises:
        InvalidInputError: naming a column that has no value in the training split.
    """
    shown_names = column_names or place_names(train.examples.shape[1])
    train_gaps, test_gaps = (block_sum(map(np.isnan, blocks(split.examples))) for split in (train, test))
    missing, present = train_gaps + test_gaps, len(train) - train_gaps
    if empty := np.flatnonzero(present == 0).tolist():
        raise InvalidInputError.of(
            "chunk", f"the column {shown_names[empty[0]][:80]!r} has no value at all in the training split; remove it"
        )
    is_integer = np.logical_and.reduce(
        [((block == np.rint(block)) | np.isnan(block)).all(axis=0) for block in blocks(train.examples)]
    )
    filling = block_sum(np.nan_to_num(block) for block in blocks(train.examples)) / present
    for split in (train, test):
        for block in blocks(split.examples):
            gaps = np.isnan(block)
            block[gaps] = np.broadcast_to(filling, block.shape)[gaps]
    means, deviations = moments(train.examples)
    lows, highs = train.examples.min(axis=0), train.examples.max(axis=0)
    columns = [
        Column(*fields)
        for fields in zip(
            shown_names, is_integer.tolist(), missing.astype(int).tolist(), lows.tolist(), highs.tolist(),
            means.tolist(), deviations.tolist(), strict=True,
        )
    ]  # fmt: skip
    preprocessing = table_preprocessing(means, deviations, lows == highs, column_names)
    return Dataset(name, preprocessing, labels, train, test, columns)


def table_preprocessing(
    means: DoubleArray, deviations: DoubleArray, is_constant: npt.NDArray[np.bool_], column_names: Sequence[str]
) -> Preprocessing:
    """The columns as they are, standardised; a constant one is only shifted."""
    scales = deviations.astype(np.float32)
    scales[is_constant | (scales == 0)] = 1
    limit = float(np.float32(MAX_VALUE))  # as the contract's single precision gives it back
    return Preprocessing(
        input_shape=(len(means),),
        uint8_scale=1.0,
        feature_min=-limit,
        feature_max=limit,
        standardisation=Standardisation(means.astype(np.float32), scales),
        feature_names=tuple(column_names),
    )


def place_names(count: int) -> list[str]:
    """What columns without names are called where one is shown."""
    return [f"x{index}" for index in range(count)]


def check_precision(values: np.ndarray, column_names: Sequence[str]) -> None:
    """Returns if single precision keeps what sets the rows of each column apart; `values` (rows, columns) may hold NaN.

    Everything is taken relative to a column's largest value, so that no square is too large or too small.

    Raises:
        InvalidInputError: naming the first column of which rounding takes more than a hundredth of its deviation.
    """
    if np.can_cast(values.dtype, np.float32):
        return
    lows = reduce(np.fmin, (np.fmin.reduce(block) for block in doubles(values)))
    highs = reduce(np.fmax, (np.fmax.reduce(block) for block in doubles(values)))
    largest = np.maximum(np.abs(lows), np.abs(highs))
    largest[~(largest > 0)] = 1
    present = np.maximum(1, block_sum(~np.isnan(block) for block in doubles(values)))
    means = block_sum(np.nan_to_num(block / largest) for block in doubles(values)) / present
    variances = block_sum(np.nan_to_num(block / largest - means) ** 2 for block in doubles(values)) / present
    lost = block_sum(np.nan_to_num((block - block.astype(np.float32)) / largest) ** 2 for block in doubles(values))
    levelled = (lows < highs) & (lost / present > MOST_LOST**2 * variances)
    if levelled.any():
        column = int(np.argmax(levelled))
        raise InvalidInputError.of(
            "chunk",
            f"the column {column_names[column][:80]!r} goes from {lows[column]:.16g} to {highs[column]:.16g}: single "
            f"precision, in which all is learned, cannot tell such values apart; subtract a constant or rescale it",
        )


def moments(values: np.ndarray) -> tuple[DoubleArray, DoubleArray]:
    """The mean and the standard deviation of each column of (rows, columns), in double precision."""
    means = block_sum(blocks(values)) / len(values)
    variances = block_sum((block - means) ** 2 for block in blocks(values)) / len(values)
    return means, np.sqrt(variances)


def block_sum(parts: Iterator[np.ndarray]) -> DoubleArray:
    """The sum of each column over all blocks, in double precision (counts too: they are exact to 2⁵³)."""
    total = sum(part.sum(axis=0, dtype=np.float64) for part in parts)
    return np.asarray(total, np.float64)


def blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Views of some rows each, so that what is computed of one stays small."""
    rows = max(1, BLOCK_VALUES // values.shape[1])
    for start in range(0, len(values), rows):
        yield values[start : start + rows]


def doubles(values: np.ndarray) -> Iterator[DoubleArray]:
    """The same in double precision."""
    for block in blocks(values):
        yield block.astype(np.float64, copy=False)
