"""PyTorch, eager, on the CPU, as its tutorials write it: modules, autograd, an optimizer, shuffled indices.

With the variant "fused" the optimizer is the one that updates all parameters in one kernel.
"""

import torch

from benchmarks.contenders.channel import BATCH_SIZE, features, run_turns, task
from shared.layers import Activation, Conv2D, Dense, Flatten, MaxPool2D
from shared.network import Architecture
from shared.recipe import Optimizer


def module_of(architecture: Architecture) -> torch.nn.Module:
    """The same network; its input is (rows, 784)."""
    modules: list[torch.nn.Module] = []
    if architecture.takes_images:
        modules.append(torch.nn.Unflatten(1, architecture.shapes[0]))
    for layer, inputs in zip(architecture.layers, architecture.shapes, strict=False):
        match layer:
            case Dense():
                modules.append(torch.nn.Linear(inputs[0], layer.units))
            case Conv2D():
                modules.append(torch.nn.Conv2d(inputs[0], layer.filters, layer.kernel_size, padding=layer.padding))
            case MaxPool2D():
                modules.append(torch.nn.MaxPool2d(layer.size))
            case Flatten():
                modules.append(torch.nn.Flatten())
            case _:
                raise ValueError(f"{layer} has no twin here")
        if isinstance(layer, Dense | Conv2D) and layer.activation is Activation.RELU:
            modules.append(torch.nn.ReLU())
    return torch.nn.Sequential(*modules)


def main() -> None:
    """One epoch a turn."""
    mine = task()
    torch.set_num_threads(mine.threads)
    torch.manual_seed(0)
    examples = torch.from_numpy(features(mine.dataset.train))  # (rows, 784)
    class_ids = torch.from_numpy(mine.dataset.train.class_ids)
    model = module_of(mine.architecture)
    kind = torch.optim.SGD if mine.spec.optimizer is Optimizer.SGD else torch.optim.Adam
    optimizer = kind(model.parameters(), lr=mine.spec.learning_rate, fused=mine.variant == "fused" or None)

    def epoch() -> int:
        for part in torch.randperm(len(examples)).split(BATCH_SIZE):
            optimizer.zero_grad()
            loss = torch.nn.functional.cross_entropy(model(examples[part]), class_ids[part])
            loss.backward()
            optimizer.step()
        return len(examples)

    run_turns(epoch)


if __name__ == "__main__":
    main()
