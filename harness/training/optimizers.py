"""SGD, Adam and AdamW on flat vectors: one network's parameters are one vector, so a step is a handful of vector operations.

Each gives what `torch.optim`'s optimizer of the same name gives, to rounding (tested in float64). The learning rate and the
count of steps are numbers, or float64 tensors () on the parameters' device, so that a captured step reads them anew each time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from harness.api.recipe import Recipe


class Optimizer(ABC):
    """Updates parameters (n,) in place from a gradient (n,), which it may overwrite. `memory` is all that it remembers."""

    memory: dict[str, Tensor]

    @abstractmethod
    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        """Take a step at a learning rate; `count` is the number of steps since the memory was empty, from 1."""


class SGD(Optimizer):
    """SGD with momentum and weight decay (Sutskever et al. 2013 in torch's form)."""

    def __init__(self, recipe: Recipe, parameters: Tensor) -> None:
        self.recipe = recipe
        self.memory = {"momentum": torch.zeros_like(parameters)} if recipe.momentum else {}

    def step(self, parameters: Tensor, gradient: Tensor, rate: float | Tensor, count: int | Tensor) -> None:
        """v ← μ v + (g + w θ); θ ← θ − rate · v, or g + w θ + μ v in Nesterov's form."""
        if self.recipe.weight_decay:
            gradient.add_(parameters, alpha=self.recipe.weight_decay)
        if not self.memory:
            _descend(parameters, gradient, rate)
            return
        momentum = self.memory["momentum"].mul_(self.recipe.momentum).add_(gradient)
        update = gradient.add_(momentum, alpha=self.recipe.momentum) if self.recipe.nesterov else momentum
        _descend(parameters, update, rate)


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015), weight decay added to the gradient."""

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
        length = rate / (1 - first**count)
        if isinstance(length, Tensor):
            parameters.sub_((mean / root).mul_(length))
        else:
            parameters.addcdiv_(mean, root, value=-length)


class AdamW(Adam):
    """AdamW (Loshchilov and Hutter 2019): weight decay decoupled from the gradient."""

    decoupled = True


def _descend(parameters: Tensor, update: Tensor, rate: float | Tensor) -> None:
    """θ ← θ − rate · update; a number costs one pass less, but a tensor's value is not known here."""
    if isinstance(rate, Tensor):
        parameters.sub_(update * rate)
    else:
        parameters.sub_(update, alpha=rate)


def make_optimizer(recipe: Recipe, parameters: Tensor) -> Optimizer:
    """Return the recipe's optimizer with an empty memory."""
    kinds: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": AdamW}
    return kinds[recipe.optimizer](recipe, parameters)
