"""A script that trains a deep ensemble on digits without the harness: one member after another, with PyTorch's default threads.

python plain_ensemble.py FOLDER MEMBERS EPOCHS
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from plain_scripts import PlainResNet20, train_script
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

MEAN, STD = 0.3056, 0.3762


def main(folder: str, members: str, epochs: str) -> None:
    """Train and save the members; print the ensemble's test accuracy in percent."""
    pixels, targets = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels * 255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    labels = torch.from_numpy(targets)
    train, test = train_test_split(range(len(labels)), test_size=0.2, stratify=targets, random_state=0)
    test_images = (images[test].float() / 255 - MEAN) / STD
    probabilities = torch.zeros(len(test), 10)
    for member in range(int(members)):
        torch.manual_seed(member)
        model = PlainResNet20(8, 1)
        train_script(
            model,
            torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=1e-4),
            (images[train], labels[train]),
            (images[test], labels[test]),
            epochs=int(epochs),
            batch=32,
            padding=1,
            normalization=((MEAN,), (STD,)),
            checkpoint=Path(folder) / f"member-{member}.pt",
        )
        with torch.no_grad():
            probabilities += model(test_images).softmax(1)
    print(100 * float((probabilities.argmax(1) == labels[test]).float().mean()))


if __name__ == "__main__":
    main(*sys.argv[1:])
