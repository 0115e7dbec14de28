"""Back through convolution and pooling: the gradients of the filters, and the deltas of the images below.

Images and deltas stand as (channels, height, width, rows), as in `shared.convolution`, whose windows are cut again
here: to copy them twice costs less than to keep them.
"""

from math import prod

import numpy as np

from shared.activations import multiply_by_derivative
from shared.convolution import Conv2DForward, MaxPool2DForward
from shared.network import FloatArray, LayerParameters

WINDOW_VALUES = 2**23  # 32 MiB of window deltas at a time


class Conv2DBack:
    """Back through one convolutional layer; `gradient` are the views to fill."""

    def __init__(self, forward: Conv2DForward, gradient: LayerParameters, capacity: int, *, is_first: bool) -> None:
        self._forward, self._is_first = forward, is_first
        filters, lines, columns = forward.output_shape
        self._weight_gradient, self._bias_gradient = gradient.weight.reshape(filters, -1), gradient.bias
        self._product = np.empty((forward.window_size, filters), np.float32)
        self._scratch = np.empty(prod(forward.output_shape) * capacity, np.float32)
        if is_first:  # nobody asks for the deltas of the images themselves
            return
        line = forward.window_size * columns * capacity
        self._window_deltas = np.empty(min(line * lines, max(line, WINDOW_VALUES)), np.float32)
        self._input_deltas = np.empty(prod(forward.input_shape) * capacity, np.float32)

    def back(
        self, parameters: LayerParameters, inputs: FloatArray, outputs: FloatArray, deltas: FloatArray
    ) -> FloatArray:
        """Fills the layer's gradient; returns the derivative by its inputs, (channels, height, width, rows)."""
        scratch = self._scratch[: deltas.size].reshape(deltas.shape)
        multiply_by_derivative(self._forward.layer.activation, outputs, deltas, scratch)
        flat = deltas.reshape(len(deltas), -1)  # (filters, values)
        np.sum(flat, axis=1, out=self._bias_gradient)
        self._weight_gradient.fill(0)
        for start, stop, windows in self._forward.strips(inputs):
            # This way round OpenBLAS takes half the time of deltas · windowsᵀ.
            np.matmul(windows, flat[:, start:stop].T, out=self._product)  # (window_size, filters)
            np.add(self._weight_gradient, self._product.T, out=self._weight_gradient)
        return deltas if self._is_first else self._deltas_below(parameters, deltas)

    def _deltas_below(self, parameters: LayerParameters, deltas: FloatArray) -> FloatArray:
        """Each window's share of the deltas, added up where the windows lay."""
        rows, forward = deltas.shape[-1], self._forward
        filters, height, width = forward.output_shape
        below = self._input_deltas[: prod(forward.input_shape) * rows].reshape(*forward.input_shape, rows)
        below.fill(0)
        transposed = parameters.weight.reshape(filters, -1).T  # (window_size, filters)
        step = max(1, WINDOW_VALUES // (forward.window_size * width * rows))
        for top in range(0, height, step):
            part = deltas[:, top : top + step].reshape(filters, -1)
            window_deltas = self._window_deltas[: forward.window_size * part.shape[1]].reshape(-1, part.shape[1])
            np.matmul(transposed, part, out=window_deltas)
            self._add_windows(below, window_deltas.reshape(forward.window_size, -1, width, rows), top)
        return below

    def _add_windows(self, below: FloatArray, window_deltas: FloatArray, top: int) -> None:
        """Adds the deltas of the windows (window_size, lines, columns, rows) whose first line of outputs is `top`."""
        (channels, height, width), layer = self._forward.input_shape, self._forward.layer
        kernel, edge = layer.kernel_size, layer.padding
        _, lines, columns, rows = window_deltas.shape
        by_place = window_deltas.reshape(channels, kernel, kernel, lines, columns, rows)
        for line in range(kernel):
            target_lines, from_lines = overlap(top + line - edge, lines, height)
            for column in range(kernel):
                target_columns, from_columns = overlap(column - edge, columns, width)
                target = below[:, target_lines, target_columns]
                np.add(target, by_place[:, line, column, from_lines, from_columns], out=target)


def overlap(shift: int, length: int, limit: int) -> tuple[slice, slice]:
    """Where a run of `length` values, moved by `shift`, lies within 0 to `limit`, and which of its values those are."""
    start, stop = max(0, shift), max(0, min(limit, length + shift))
    return slice(start, stop), slice(start - shift, max(start, stop) - shift)


class MaxPool2DBack:
    """Back through one pooling layer."""

    def __init__(self, forward: MaxPool2DForward, capacity: int) -> None:
        self._forward = forward
        self._input_deltas = np.zeros(prod(forward.input_shape) * capacity, np.float32)
        self._rows = capacity
        size = prod(forward.output_shape) * capacity
        self._share, self._is_largest = np.empty(size, np.float32), np.empty(size, np.bool_)

    def back(
        self, _parameters: LayerParameters, inputs: FloatArray, outputs: FloatArray, deltas: FloatArray
    ) -> FloatArray:
        """Each window's delta at its largest value, the first one where several are equal; 0 elsewhere.

        `deltas` is used up.
        """
        rows, size = deltas.shape[-1], deltas.size
        below = self._input_deltas[: prod(self._forward.input_shape) * rows]
        if rows != self._rows:  # other rows, other left-over edges, which must be 0
            self._input_deltas.fill(0)
            self._rows = rows
        below = below.reshape(*self._forward.input_shape, rows)
        is_largest, share = self._is_largest[:size].reshape(deltas.shape), self._share[:size].reshape(deltas.shape)
        for values, target in zip(self._forward.places(inputs), self._forward.places(below), strict=True):
            np.equal(values, outputs, out=is_largest)
            np.multiply(deltas, is_largest, out=share)
            np.copyto(target, share)
            np.subtract(deltas, share, out=deltas)
        return below
