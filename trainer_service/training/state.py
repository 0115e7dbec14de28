"""The state of a training: all that its updates change, and how far it is.

It promises that nothing else has to be kept: a training built from the same spec and data, on as many threads, goes on
from a checkpoint to the last bit as the one it was taken from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from shared.layers import Dropout
from shared.network import Network
from shared.training_spec import EpochMetrics, TrainingSpec
from trainer_service.training.augmentation import Augmenter
from trainer_service.training.augmentation_maps import Indices
from trainer_service.training.averaging import MovingAverage
from trainer_service.training.checkpoint import FORMAT, Checkpoint, CheckpointMismatchError, StateArray, copies
from trainer_service.training.early_stopping import Best
from trainer_service.training.minibatches import Minibatch
from trainer_service.training.optimizers import optimizer_for


@dataclass
class Position:
    """How far a training is: `updates` in all, `seconds_before` of earlier epochs' updates, the rest in its epoch."""

    updates: int = 0
    seconds_before: float = 0.0
    step: int = 0
    seconds: float = 0.0
    rows: int = 0
    loss_sum: float = 0.0

    @property
    def train_loss(self) -> float:
        """The mean over the epoch so far."""
        return self.loss_sum / self.rows

    @property
    def samples_per_second(self) -> float:
        """The mean over the epoch so far."""
        return self.rows / self.seconds

    @property
    def seconds_per_update(self) -> float:
        """The mean over all updates."""
        return (self.seconds_before + self.seconds) / self.updates

    def next_epoch(self) -> "Position":
        """The beginning of the epoch after this one."""
        return Position(self.updates, self.seconds_before + self.seconds)


class TrainingState:
    """The state of one training of `network`, from its beginning on; the generators and the augmenter are its own.

    `examples` are how many are trained on, set aside for validation, and tested with.
    """

    def __init__(
        self,
        spec: TrainingSpec,
        network: Network,
        *,
        shuffle: np.random.Generator,
        dropout: Sequence[np.random.Generator],
        augmenter: Augmenter | None,
        examples: tuple[int, int, int],
    ) -> None:
        self.network = network
        self.optimizer = optimizer_for(spec, len(network.parameters))
        self.average = MovingAverage(network, spec.ema_decay) if spec.ema_decay else None
        self.best = Best(spec.early_stopping_patience, network)
        self.position, self.epochs = Position(), list[EpochMetrics]()
        self._most_epochs, self._examples = spec.epochs, examples
        self._shuffle, self._before_epoch = shuffle, shuffle.bit_generator.state
        # A network that drops nothing draws nothing, and may go on with any number of threads.
        drops = any(isinstance(layer, Dropout) for layer in network.architecture.layers)
        self._dropout = dropout if drops else ()
        self._augmenter = augmenter
        self._augmentation: Mapping[str, StateArray] = copies(augmenter.state()) if augmenter else {}
        self._identity = {
            "format": FORMAT,
            "seed": spec.seed,
            "batch_size": spec.batch_size,
            "examples": list(examples),
            "dropout_threads": len(self._dropout),
        }

    @property
    def published(self) -> Network:
        """The weights that are measured, and published if no earlier ones were better: the average, if there is one."""
        return self.average.network if self.average else self.network

    @property
    def epoch(self) -> int:
        """The number of the epoch that it is in, from 1."""
        return len(self.epochs) + 1

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or as many as early stopping allows."""
        return len(self.epochs) >= self._most_epochs or self.best.is_over(len(self.epochs))

    def order(self) -> Indices:
        """The order of this epoch's examples; to be asked for once an epoch, and once after a resume."""
        return self._shuffle.permutation(self._examples[0])

    def end_step(self, minibatch: Minibatch, loss: float, seconds: float) -> None:
        """After an update by a minibatch with this mean loss, so many seconds into the epoch."""
        self._augmentation = minibatch.augmentation
        position = self.position
        position.updates += 1
        position.step += 1
        position.seconds = seconds
        position.rows += len(minibatch)
        position.loss_sum += loss * len(minibatch)

    def end_epoch(self, metrics: EpochMetrics) -> None:
        """After an epoch's last step, with what was measured."""
        self.epochs.append(metrics)
        self.best.note(metrics, self.published)
        self.position = self.position.next_epoch()
        self._before_epoch = self._shuffle.bit_generator.state

    def checkpoint(self) -> Checkpoint:
        """All of it, copied."""
        facts = {
            **self._identity,
            "position": asdict(self.position),
            "epochs": [asdict(metrics) for metrics in self.epochs],
            "best_epoch": self.best.epoch,
            "shuffle": self._before_epoch,
            "dropout": [rng.bit_generator.state for rng in self._dropout],
        }
        return Checkpoint(copies(self._arrays()), facts)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes on the state that a checkpoint holds.

        Raises:
            CheckpointMismatchError: if it is of another training.
        """
        self._check(checkpoint)
        facts = checkpoint.facts
        for name, array in self._arrays().items():
            np.copyto(array, checkpoint.arrays[name])
        self.position, self.epochs = Position(**facts["position"]), list(checkpoint.epochs)
        self.best.metrics = self.epochs[facts["best_epoch"] - 1] if facts["best_epoch"] else None
        self._shuffle.bit_generator.state = self._before_epoch = facts["shuffle"]
        for rng, state in zip(self._dropout, facts["dropout"], strict=True):
            rng.bit_generator.state = state
        if self._augmenter:
            self._augmenter.restore(self._augmentation)

    def _arrays(self) -> dict[str, StateArray]:
        """Every array by name: live ones, but the augmenter's, which may be ahead of the last update."""
        parts: dict[str, Mapping[str, StateArray]] = {
            "network": {"parameters": self.network.parameters},
            "optimizer": self.optimizer.state(),
            "average": self.average.state() if self.average else {},
            "best": self.best.state(),
            "augmentation": self._augmentation,
        }
        return {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()}

    def _check(self, checkpoint: Checkpoint) -> None:
        expected = {**self._identity, "arrays": layout(self._arrays())}
        found = {**checkpoint.facts, "arrays": layout(checkpoint.arrays)}
        different = [
            f"{name} {found.get(name)}, expected {expected[name]}"
            for name in expected
            if found.get(name) != expected[name]
        ]
        if different:
            raise CheckpointMismatchError(f"the checkpoint is of another training: {'; '.join(different)}")


def layout(arrays: Mapping[str, StateArray]) -> dict[str, tuple[str, int]]:
    """The type and the length of each array."""
    return {name: (array.dtype.name, len(array)) for name, array in arrays.items()}
