"""The optimizers on flat vectors against those of `torch.optim`, in float64."""

from __future__ import annotations

import pytest
import torch

from harness import Recipe
from harness.training.optimizers import make_optimizer

CASES = {
    "sgd": (Recipe(optimizer="sgd", momentum=0.0, weight_decay=0.0), torch.optim.SGD, {}),
    "momentum": (Recipe(optimizer="sgd", weight_decay=1e-2), torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-2}),
    "nesterov": (
        Recipe(optimizer="sgd", nesterov=True, weight_decay=1e-2),
        torch.optim.SGD,
        {"momentum": 0.9, "weight_decay": 1e-2, "nesterov": True},
    ),
    "adam": (Recipe(optimizer="adam", weight_decay=1e-2), torch.optim.Adam, {"weight_decay": 1e-2}),
    "adamw": (Recipe(optimizer="adamw", weight_decay=1e-2), torch.optim.AdamW, {"weight_decay": 1e-2}),
}


@pytest.mark.parametrize("inputs", ["numbers", "tensors"])
@pytest.mark.parametrize("case", CASES)
def test_ten_steps_equal_torchs(case: str, inputs: str) -> None:
    """Ten steps at changing rates give the parameters of torch's optimizer, with rate and count as numbers or tensors."""
    recipe, cls, arguments = CASES[case]
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(50, dtype=torch.float64, generator=generator)
    expected = torch.nn.Parameter(parameters.clone())
    optimizer = make_optimizer(recipe, parameters)
    reference = cls([expected], lr=0.1, **arguments)
    for count in range(1, 11):
        gradient = torch.randn(50, dtype=torch.float64, generator=generator)
        rate = 0.1 / count
        reference.param_groups[0]["lr"] = rate
        expected.grad = gradient.clone()
        reference.step()
        if inputs == "numbers":
            optimizer.step(parameters, gradient, rate, count)
        else:
            numbers = torch.tensor([rate, count], dtype=torch.float64)
            optimizer.step(parameters, gradient, numbers[0], numbers[1])
    torch.testing.assert_close(parameters, expected.detach(), rtol=1e-12, atol=1e-14)


def test_memory_is_the_whole_state() -> None:
    """An optimizer with the memory of another one continues as the other would."""
    recipe = Recipe(optimizer="adamw")
    parameters = torch.linspace(-1, 1, 9, dtype=torch.float64)
    first = make_optimizer(recipe, parameters)
    gradients = [torch.sin(parameters * k) for k in (1, 2, 3)]
    whole, cut = parameters.clone(), parameters.clone()
    for count, gradient in enumerate(gradients, 1):
        first.step(whole, gradient.clone(), 0.1, count)
    before = make_optimizer(recipe, parameters)
    before.step(cut, gradients[0].clone(), 0.1, 1)
    after = make_optimizer(recipe, parameters)
    after.memory = {name: vector.clone() for name, vector in before.memory.items()}
    for count, gradient in enumerate(gradients[1:], 2):
        after.step(cut, gradient.clone(), 0.1, count)
    assert torch.equal(whole, cut)
