"""scikit-learn's MLPClassifier: `fit` with a warm start, a few epochs a turn.

So its checks of the data before each `fit` weigh little.
"""

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

from benchmarks.contenders.channel import BATCH_SIZE, features, run_turns, task
from shared.layers import Dense
from shared.recipe import Optimizer

EPOCHS = 3


def main() -> None:
    """EPOCHS epochs a turn."""
    mine = task()
    examples, class_ids = features(mine.dataset.train), mine.dataset.train.class_ids
    classifier = MLPClassifier(
        hidden_layer_sizes=tuple(layer.units for layer in mine.spec.layers if isinstance(layer, Dense)),
        solver="sgd" if mine.spec.optimizer is Optimizer.SGD else "adam",
        alpha=0.0,
        batch_size=BATCH_SIZE,
        learning_rate_init=mine.spec.learning_rate,
        max_iter=EPOCHS,
        momentum=0.0,
        nesterovs_momentum=False,
        random_state=0,
        warm_start=True,
    )
    warnings.simplefilter("ignore", ConvergenceWarning)  # that it did not converge in so few epochs

    def epochs() -> int:
        classifier.fit(examples, class_ids)
        return EPOCHS * len(examples)

    run_turns(epochs)


if __name__ == "__main__":
    main()
