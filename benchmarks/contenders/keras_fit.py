"""Keras' own `fit`, one epoch at a time."""

import keras

from benchmarks.contenders.channel import BATCH_SIZE, features, run_turns, task
from benchmarks.contenders.keras_model import compiled_model


def main() -> None:
    """One epoch a turn; what is compiled is compiled in the first one."""
    mine = task()
    keras.utils.set_random_seed(0)
    examples, class_ids = features(mine.dataset.train), mine.dataset.train.class_ids
    model = compiled_model(mine.architecture, mine.spec)

    def epoch() -> int:
        model.fit(examples, class_ids, batch_size=BATCH_SIZE, epochs=1, shuffle=True, verbose=0)
        return len(examples)

    run_turns(epoch)


if __name__ == "__main__":
    main()
