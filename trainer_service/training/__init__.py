"""The training engine: initial weights, gradients, optimizers, evaluation and the loop over them."""
