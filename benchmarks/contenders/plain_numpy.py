"""The loop as a textbook writes it in NumPy: one expression a formula, a new array for each; float32 throughout."""

import numpy as np

from benchmarks.contenders.channel import BATCH_SIZE, features, run_turns, task
from shared.layers import Dense
from shared.network import FloatArray
from shared.recipe import Optimizer

Parameters = list[FloatArray]


class Adam:
    """Kingma and Ba (2015), algorithm 1."""

    def __init__(self, parameters: Parameters, learning_rate: float) -> None:
        self._parameters, self._learning_rate, self._step = parameters, learning_rate, 0
        self._m = [np.zeros_like(parameter) for parameter in parameters]
        self._v = [np.zeros_like(parameter) for parameter in parameters]

    def update(self, gradients: Parameters) -> None:
        """One step."""
        self._step += 1
        for index, gradient in enumerate(gradients):
            self._m[index] = 0.9 * self._m[index] + 0.1 * gradient
            self._v[index] = 0.999 * self._v[index] + 0.001 * gradient**2
            m_hat = self._m[index] / (1 - 0.9**self._step)
            v_hat = self._v[index] / (1 - 0.999**self._step)
            self._parameters[index] -= self._learning_rate * m_hat / (np.sqrt(v_hat) + 1e-8)


class Sgd:
    """parameters −= learning rate · gradient."""

    def __init__(self, parameters: Parameters, learning_rate: float) -> None:
        self._parameters, self._learning_rate = parameters, learning_rate

    def update(self, gradients: Parameters) -> None:
        """One step."""
        for index, gradient in enumerate(gradients):
            self._parameters[index] -= self._learning_rate * gradient


def gradients_of(parameters: Parameters, inputs: FloatArray, targets: FloatArray) -> Parameters:
    """Forwards and backwards through one hidden layer, ReLU, softmax and cross-entropy."""
    w1, b1, w2, b2 = parameters
    hidden = np.maximum(inputs @ w1 + b1, 0)
    logits = hidden @ w2 + b2
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    output_deltas = (probabilities - targets) / len(inputs)
    hidden_deltas = (output_deltas @ w2.T) * (hidden > 0)
    return [inputs.T @ hidden_deltas, hidden_deltas.sum(axis=0), hidden.T @ output_deltas, output_deltas.sum(axis=0)]


def main() -> None:
    """One epoch a turn."""
    mine = task()
    examples = features(mine.dataset.train)
    targets = np.eye(mine.architecture.class_count, dtype=np.float32)[mine.dataset.train.class_ids]
    (hidden,) = (layer.units for layer in mine.spec.layers if isinstance(layer, Dense))
    rng = np.random.default_rng(0)
    parameters: Parameters = []
    for inputs, outputs in ((examples.shape[1], hidden), (hidden, targets.shape[1])):
        weight = rng.standard_normal((inputs, outputs), np.float32) * np.float32((2 / inputs) ** 0.5)
        parameters += [weight, np.zeros(outputs, np.float32)]
    kind = Sgd if mine.spec.optimizer is Optimizer.SGD else Adam
    optimizer = kind(parameters, mine.spec.learning_rate)

    def epoch() -> int:
        order = rng.permutation(len(examples))
        for start in range(0, len(order), BATCH_SIZE):
            part = order[start : start + BATCH_SIZE]
            optimizer.update(gradients_of(parameters, examples[part], targets[part]))
        return len(examples)

    run_turns(epoch)


if __name__ == "__main__":
    main()
