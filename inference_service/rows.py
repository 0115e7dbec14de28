"""The rows of requests, as one array: of one request its own bytes as they came, of image files their pixels."""

from collections.abc import Sequence
from typing import cast

import numpy as np

from inference_service.inputs import DTYPES, check_values
from inference_service.questions import Request
from shared.preprocessing import Preprocessing, Rows


def rows_of(requests: Sequence[Request], preprocessing: Preprocessing) -> Rows:
    """The rows of all requests, uint8 or float32 (rows, input_size); all have one type of numbers, or one has images.

    Raises:
        InvalidInputError: for values or images that `preprocessing` has no use for.
    """
    first = requests[0]
    form = first.reading.question.form
    if form is None:
        from inference_service.images import rows_of_images  # noqa: PLC0415 - 6 MB that only image files need

        return rows_of_images(cast("tuple[bytes, ...]", first.contents), preprocessing)
    contents = cast("list[bytes]", [request.contents for request in requests])
    numbers = contents[0] if len(contents) == 1 else b"".join(contents)
    rows: Rows = np.frombuffer(numbers, DTYPES[form.data_type]).reshape(-1, preprocessing.input_size)
    check_values(rows, preprocessing, form.names)
    return rows
