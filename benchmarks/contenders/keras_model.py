"""The same network in Keras, on whichever backend KERAS_BACKEND names."""

import keras

from shared.layers import Activation, Conv2D, Dense, Flatten, MaxPool2D
from shared.network import Architecture
from shared.recipe import Optimizer
from shared.training_spec import TrainingSpec


def compiled_model(architecture: Architecture, spec: TrainingSpec) -> keras.Model:
    """Ready to fit: logits, cross-entropy of class ids, and what else `compile` decides by itself."""
    layers = [keras.Input((architecture.input_size,))]
    if architecture.takes_images:
        layers.append(keras.layers.Reshape((*architecture.input_shape, 1)))
    for layer in architecture.layers:
        match layer:
            case Dense():
                layers.append(keras.layers.Dense(layer.units, activation=activation(layer.activation)))
            case Conv2D() if layer.padding in {0, (layer.kernel_size - 1) // 2}:
                padding = "same" if layer.padding else "valid"
                chosen = activation(layer.activation)
                layers.append(keras.layers.Conv2D(layer.filters, layer.kernel_size, padding=padding, activation=chosen))
            case MaxPool2D():
                layers.append(keras.layers.MaxPooling2D(layer.size))
            case Flatten():
                layers.append(keras.layers.Flatten())
            case _:
                raise ValueError(f"{layer} has no twin here")
    model = keras.Sequential(layers)
    kind = keras.optimizers.SGD if spec.optimizer is Optimizer.SGD else keras.optimizers.Adam
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(kind(spec.learning_rate), loss, metrics=[])
    return model


def activation(name: Activation) -> str | None:
    """Keras' name of it."""
    return None if name is Activation.IDENTITY else name.value
