"""Convolution and pooling, forwards. Images stand as (channels, height, width, rows), with the rows innermost.

So every pixel of a batch is one contiguous run: windows are copied in long runs, and a product of the filters with the
copied windows gives the next layer's images with nothing to transpose.
"""

from collections.abc import Iterator
from math import prod

import numpy as np

from shared.activations import activate
from shared.layers import Conv2D, MaxPool2D, Shape
from shared.network import FloatArray, LayerParameters

# OpenBLAS multiplies without copying its operands up to this many multiplications (measured: 2 to 4 times as fast for
# the few weights of a first layer); larger products are best cut so that their windows stay in the cache nearby.
SMALL_PRODUCT = 10**6
WINDOW_VALUES = 2**20


class Conv2DForward:
    """Windows and outputs of one convolutional layer for up to `capacity` rows."""

    def __init__(self, layer: Conv2D, inputs: Shape, capacity: int) -> None:
        self.layer, self.input_shape, self.output_shape = layer, inputs, layer.output_shape(inputs)
        self.window_size = inputs[0] * layer.kernel_size**2
        self._outputs = np.empty(prod(self.output_shape) * capacity, np.float32)
        self._padded_shape = (inputs[0], inputs[1] + 2 * layer.padding, inputs[2] + 2 * layer.padding)
        self._padded = np.zeros(prod(self._padded_shape) * capacity if layer.padding else 0, np.float32)
        self._padded_rows = capacity
        line = self.window_size * self.output_shape[2] * capacity
        longest_strip = max(line, WINDOW_VALUES, SMALL_PRODUCT // layer.filters)
        self._windows = np.empty(min(longest_strip, line * self.output_shape[1]), np.float32)

    def run(self, parameters: LayerParameters, images: FloatArray) -> FloatArray:
        """The layer's outputs (filters, height, width, rows), valid until the next call."""
        filters, height, width = self.output_shape
        rows = images.shape[-1]
        outputs = self._outputs[: prod(self.output_shape) * rows].reshape(filters, height * width * rows)
        weight, bias = parameters.weight.reshape(filters, -1), parameters.bias[:, np.newaxis]
        for start, stop, windows in self.strips(images):
            part = outputs[:, start:stop]
            np.matmul(weight, windows, out=part)  # (filters, values of a strip)
            np.add(part, bias, out=part)
            activate(self.layer.activation, part)
        return outputs.reshape(*self.output_shape, rows)

    def strips(self, images: FloatArray) -> Iterator[tuple[int, int, FloatArray]]:
        """Some lines of the output at a time: where they begin and end, in values, and the windows they come from.

        The windows are (window_size, stop − start), valid until the next strip.
        """
        rows = images.shape[-1]
        channels, kernel = self.input_shape[0], self.layer.kernel_size
        _, height, width = self.output_shape
        padded = self._pad(images)
        by_channel, by_line, by_column, by_row = padded.strides
        strides = (by_channel, by_line, by_column, by_line, by_column, by_row)
        step = self.strip_lines(rows)
        for top in range(0, height, step):
            lines = min(step, height - top)
            shape = (channels, kernel, kernel, lines, width, rows)
            view = np.ndarray(shape, np.float32, padded, top * by_line, strides)  # every window, overlapping
            windows = self._windows[: prod(shape)].reshape(shape)
            np.copyto(windows, view)
            yield top * width * rows, (top + lines) * width * rows, windows.reshape(self.window_size, -1)

    def strip_lines(self, rows: int) -> int:
        """How many lines of the output to compute at a time."""
        line = self.output_shape[2] * rows * self.window_size
        lines = SMALL_PRODUCT // (line * self.layer.filters) or WINDOW_VALUES // line
        return min(max(1, lines), self.output_shape[1])

    def _pad(self, images: FloatArray) -> FloatArray:
        if not self.layer.padding:
            return np.ascontiguousarray(images)
        rows, edge = images.shape[-1], self.layer.padding
        if rows != self._padded_rows:  # other rows, other edges
            self._padded.fill(0)
            self._padded_rows = rows
        padded = self._padded[: prod(self._padded_shape) * rows].reshape(*self._padded_shape, rows)
        padded[:, edge:-edge, edge:-edge] = images
        return padded


class MaxPool2DForward:
    """Outputs of one pooling layer for up to `capacity` rows."""

    def __init__(self, layer: MaxPool2D, inputs: Shape, capacity: int) -> None:
        self.layer, self.input_shape, self.output_shape = layer, inputs, layer.output_shape(inputs)
        self._outputs = np.empty(prod(self.output_shape) * capacity, np.float32)

    def run(self, _parameters: LayerParameters, images: FloatArray) -> FloatArray:
        """The largest value of each window (channels, height, width, rows), valid until the next call."""
        rows = images.shape[-1]
        outputs = self._outputs[: prod(self.output_shape) * rows].reshape(*self.output_shape, rows)
        first, *others = self.places(images)
        np.copyto(outputs, first)
        for values in others:
            np.maximum(outputs, values, out=outputs)
        return outputs

    def places(self, images: FloatArray) -> Iterator[FloatArray]:
        """One place in every window at a time, line by line: views of the outputs' shape."""
        size, (_, height, width) = self.layer.size, self.output_shape
        for line in range(size):
            for column in range(size):
                yield images[:, line : height * size : size, column : width * size : size]
