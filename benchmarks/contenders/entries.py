"""Who takes part in which group, on what: the table of contents of `make bench-training`."""

from dataclasses import dataclass

from benchmarks.contenders.running import Contender

OURS = "this engine"
PYTORCH = "PyTorch eager"
PLAIN = "plain NumPy loop"
PLAIN_OUR_KERNEL = f"{PLAIN}, our kernel"
LIMIT = "matrix products alone"
SPEED = "samples_per_second"


def ours(name: str = OURS, module: str = "engine", variant: str = "", optimizer: str = "") -> Contender:
    """A contender of this project."""
    return Contender(name, module, variant=variant, optimizer=optimizer, own_kernel=True)


def keras(backend: str, module: str = "keras_fit") -> Contender:
    """Keras on one of its backends."""
    title = {"jax": "JAX", "torch": "PyTorch"}[backend]
    return Contender(f"Keras on {title}", module, ("keras", backend), environment={"KERAS_BACKEND": backend})


ANY_NETWORK = (
    ours(),
    Contender(PYTORCH, "pytorch", ("torch",)),
    Contender("PyTorch eager, fused optimizer", "pytorch", ("torch",), variant="fused"),
    keras("jax"),
    keras("torch"),
)
DENSE_ONLY = (
    Contender("scikit-learn MLPClassifier", "scikit", ("sklearn",)),
    Contender(PLAIN, "plain_numpy"),
    Contender(PLAIN_OUR_KERNEL, "plain_numpy", own_kernel=True),
)


@dataclass(frozen=True)
class SpeedGroup:
    """Contenders for samples per second; `absent` is a word on who has no such network."""

    network: str
    optimizer: str
    contenders: tuple[Contender, ...]
    absent: str = ""

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.network}, {'SGD' if self.optimizer == 'sgd' else 'Adam'}"


SPEED_GROUPS = {
    "mlp-sgd": SpeedGroup("mlp", "sgd", (*ANY_NETWORK, *DENSE_ONLY)),
    "mlp-adam": SpeedGroup("mlp", "adam", (*ANY_NETWORK, *DENSE_ONLY)),
    "lenet-adam": SpeedGroup(
        "lenet", "adam", ANY_NETWORK, "scikit-learn has no convolutions, and the plain NumPy loop none either"
    ),
}
SHARES = (
    ours(LIMIT, "matrix_products"),
    *(ours(f"{OURS}, {title}", optimizer=name) for name, title in (("sgd", "SGD"), ("adam", "Adam"))),
)
KERAS = "Keras on JAX"
RECIPE, SAME_RECIPE = f"{OURS}, preset's recipe", f"{OURS}, Keras' recipe"
SHORT_RECIPE = f"{OURS}, three epochs in one cycle"
TO_ACCURACY = (
    ours(RECIPE, "engine_accuracy", "preset"),
    ours(SHORT_RECIPE, "engine_accuracy", "short"),
    ours(SAME_RECIPE, "engine_accuracy", "plain"),
    keras("jax", "keras_accuracy"),
    keras("torch", "keras_accuracy"),
)
ONE_EPOCH = ours(f"{OURS}, a training of one epoch", "engine_accuracy", "one epoch")
MEMORY = ours(f"{OURS}, a worker's job", "worker_memory")
