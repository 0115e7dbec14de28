"""Keras from random weights to a test accuracy: fit an epoch, evaluate, until it is there; a new model a turn.

The clock starts as the model is made, as ours starts as its network is made; evaluation is in batches of 1000, which is
fast, and counts only correct answers.
"""

import time

import keras
import numpy as np

from benchmarks.contenders.channel import BATCH_SIZE, Channel, OwnTask, features, task
from benchmarks.contenders.engine_accuracy import GOAL
from benchmarks.contenders.keras_model import compiled_model
from benchmarks.contenders.task import Answer
from shared.network import FloatArray

MAX_EPOCHS = 60


def train_to_goal(mine: OwnTask, train: FloatArray, test: FloatArray) -> Answer:
    """One training."""
    train_ids, test_ids = mine.dataset.train.class_ids, mine.dataset.test.class_ids
    started = time.perf_counter()
    model = compiled_model(mine.architecture, mine.spec)
    epochs, accuracy = 0, 0.0
    while accuracy < GOAL and epochs < MAX_EPOCHS:
        model.fit(train, train_ids, batch_size=BATCH_SIZE, epochs=1, shuffle=True, verbose=0)
        answers = model.predict(test, batch_size=1000, verbose=0).argmax(axis=1)
        accuracy = float(np.mean(answers == test_ids))
        epochs += 1
    return {"seconds": time.perf_counter() - started, "accuracy": accuracy, "epochs": epochs}


def main() -> None:
    """One training a turn."""
    mine = task()
    train, test = features(mine.dataset.train), features(mine.dataset.test)
    channel, seed = Channel(), 0
    channel.ready()
    while channel.wait():
        seed += 1
        keras.utils.set_random_seed(seed)
        channel.answer(train_to_goal(mine, train, test))


if __name__ == "__main__":
    main()
