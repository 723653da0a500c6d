"""SGD, Adam and AdamW on flat vectors: a network's parameters are one vector, so a step takes only a few vector operations.

Each equals the optimizer of `torch.optim` of the same name, to rounding. The learning rate and the count of steps are numbers,
or float64 tensors () on the parameters' device, which a captured step reads in every replay.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from harness.api.recipe import Recipe


class Optimizer(ABC):
    """Updates parameters (n,) in place from a gradient (n,), which it may overwrite. `memory` is its whole state."""

    memory: dict[str, Tensor]

    @abstractmethod
    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        """Take a step at a learning rate; `count` is the number of steps since the memory was empty, this one included."""


class SGD(Optimizer):
    """SGD with momentum and weight decay (Sutskever et al. 2013, in the form of `torch.optim.SGD`)."""

    def __init__(self, recipe: Recipe, parameters: Tensor) -> None:
        self.recipe = recipe
        self.memory = {}
        if recipe.momentum:
            self.memory["momentum"] = torch.zeros_like(parameters)

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        """g ← g + w θ; v ← μ v + g; θ ← θ − rate · v, or with Nesterov momentum θ ← θ − rate · (g + μ v)."""
        if self.recipe.weight_decay:
            gradient.add_(parameters, alpha=self.recipe.weight_decay)
        if not self.memory:
            _descend(parameters, gradient, rate)
            return
        momentum = self.memory["momentum"].mul_(self.recipe.momentum).add_(gradient)
        update = momentum
        if self.recipe.nesterov:
            update = gradient.add_(momentum, alpha=self.recipe.momentum)
        _descend(parameters, update, rate)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), with weight decay added to the gradient."""

    decoupled = False

    def __init__(self, recipe: Recipe, parameters: Tensor) -> None:
        self.recipe = recipe
        self.memory = {"mean": torch.zeros_like(parameters), "square": torch.zeros_like(parameters)}

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        """θ ← θ − rate · m̂ / (√v̂ + ε), with bias-corrected averages m̂ of g and v̂ of g²."""
        first, second = self.recipe.betas
        if self.recipe.weight_decay and self.decoupled:
            parameters.mul_(1 - rate * self.recipe.weight_decay)
        elif self.recipe.weight_decay:
            gradient.add_(parameters, alpha=self.recipe.weight_decay)
        mean = self.memory["mean"].lerp_(gradient, 1 - first)
        square = self.memory["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        root = square.sqrt().div_((1 - second**count) ** 0.5).add_(self.recipe.eps)
        step_size = rate / (1 - first**count)
        if isinstance(step_size, Tensor):
            parameters.sub_((mean / root).mul_(step_size))
        else:
            parameters.addcdiv_(mean, root, value=-step_size)


class AdamW(Adam):
    """AdamW (Loshchilov and Hutter 2019): Adam with weight decay decoupled from the gradient."""

    decoupled = True


def _descend(parameters: Tensor, update: Tensor, rate: float | Tensor) -> None:
    """θ ← θ − rate · update. A rate that is a number takes one pass over memory less than one that is a tensor."""
    if isinstance(rate, Tensor):
        parameters.sub_(update * rate)
    else:
        parameters.sub_(update, alpha=rate)


def make_optimizer(recipe: Recipe, parameters: Tensor) -> Optimizer:
    """Return the recipe's optimizer for a vector of parameters (n,), with an empty memory."""
    kinds: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
    return kinds[recipe.optimizer](recipe, parameters)
