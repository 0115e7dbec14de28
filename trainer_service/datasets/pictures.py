"""From an array of images to a data set: bytes, flattened, with intensities from 0 to 1 for the network."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from shared.errors import InvalidInputError
from shared.preprocessing import Preprocessing
from trainer_service.datasets.classes import ClassIds, hold_out
from trainer_service.datasets.dataset import Dataset, Split
from trainer_service.datasets.limits import MAX_DECODED_BYTES, MAX_IMAGE_VALUES, MAX_ROWS

Pixels = npt.NDArray[np.uint8]


def check_pictures_size(rows: int, image_shape: Sequence[int]) -> None:
    """Returns if so many images of this shape can be taken; InvalidInputError with the numbers if not."""
    shown = " × ".join(map(str, image_shape))
    if rows > MAX_ROWS:
        raise InvalidInputError.of("chunk", f"got {rows} images, expected at most {MAX_ROWS}; send a sample")
    values = math.prod(image_shape)
    if not 1 <= values <= MAX_IMAGE_VALUES:
        raise InvalidInputError.of(
            "chunk", f"got images of {shown} = {values} values, expected 1 to {MAX_IMAGE_VALUES}; shrink them"
        )
    if rows * values > MAX_DECODED_BYTES:
        raise InvalidInputError.of(
            "chunk",
            f"got {rows} images of {shown}, expected at most {MAX_DECODED_BYTES} bytes in all; shrink them or send a "
            f"sample",
        )


def held_out_pictures(name: str, pixels: Pixels, class_ids: ClassIds, labels: tuple[str, ...]) -> Dataset:
    """A data set of images (rows, height, width) or (rows, height, width, 3), a fifth of each class held out."""
    train, test = hold_out(class_ids, labels)
    return pictures_dataset(name, (pixels[train], class_ids[train]), (pixels[test], class_ids[test]), labels)


def pictures_dataset(
    name: str, train: tuple[Pixels, ClassIds], test: tuple[Pixels, ClassIds], labels: tuple[str, ...]
) -> Dataset:
    """A data set of two splits of images, each with its class ids."""
    return Dataset(
        name=name,
        preprocessing=picture_preprocessing(train[0].shape[1:]),
        class_labels=labels,
        train=flat(*train),
        test=flat(*test),
    )


def picture_preprocessing(image_shape: tuple[int, ...]) -> Preprocessing:
    """Bytes from 0 to 255 become intensities from 0 to 1."""
    return Preprocessing(input_shape=image_shape, uint8_scale=1 / 255)


def flat(pixels: Pixels, class_ids: npt.NDArray[np.integer]) -> Split:
    """Images (rows, …) as a split, without copying a pixel."""
    return Split(pixels.reshape(len(pixels), -1), class_ids.astype(np.int64))
