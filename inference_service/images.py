"""PNG and JPEG files to rows of features: the part of a request that is decoded by somebody else's code.

What is no image is refused by its place in the batch, before a pixel of what is too large is made.
"""

from collections.abc import Sequence

import numpy as np

from shared.errors import InvalidInputError
from shared.image_files import open_image, upright_pixels
from shared.network import FloatArray
from shared.preprocessing import Preprocessing

MAX_REQUEST_PIXELS = 64 * 10**6  # decoding is the dearest thing a small request can ask for
CHANNELS = 3


def rows_of_images(files: Sequence[bytes], preprocessing: Preprocessing) -> FloatArray:
    """The features of each file's image, float32 (rows, input_size): grey, or in colour where the model learned that.

    Raises:
        InvalidInputError: naming the file that is no image, or too large, or the model that takes none.
    """
    match preprocessing.input_shape:
        case (height, width):
            colour = False
        case (height, width, channels) if channels == CHANNELS:
            colour = True
        case shape:
            raise InvalidInputError.of(
                "images", f"this model takes no images: its input shape is {list(shape)}; send a tensor"
            )
    rows = np.empty((len(files), *preprocessing.input_shape), np.float32)
    pixels_left = MAX_REQUEST_PIXELS
    for index, file in enumerate(files):
        try:
            image = open_image(file)
            pixels_left -= image.width * image.height
            if pixels_left < 0:
                raise InvalidInputError.of(
                    "images.files", f"the images have more than {MAX_REQUEST_PIXELS} pixels together; split the batch"
                )
            rows[index] = upright_pixels(image, colour=colour, size=(width, height))
        except ValueError as error:
            raise InvalidInputError.of(f"images.files[{index}]", str(error)) from error
    low, high = preprocessing.feature_min, preprocessing.feature_max
    rows *= np.float32((high - low) / 255)
    rows += np.float32(low)
    return rows.reshape(len(files), preprocessing.input_size)
