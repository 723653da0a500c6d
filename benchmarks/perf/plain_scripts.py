"""What one writes without the harness: the networks, the training step, the whole script, the walk between networks.

The other side of the races, written as a careful user of PyTorch and torchvision would, with default settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

StateDict = dict[str, Tensor]


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of images: to the last place, `nn.LayerNorm`, and back."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class BasicBlock(nn.Module):
    """Two convolutions and a shortcut."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = ChannelNorm(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = ChannelNorm(out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 3, stride, 1, bias=False), ChannelNorm(out))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class PlainResNet20(nn.Module):
    """ResNet20 with LayerNorm."""

    def __init__(self, channels: int, images: int = 3, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(images, channels, 3, 1, 1, bias=False)
        self.norm1 = ChannelNorm(channels)
        blocks, wide = [], channels
        for out, stride in ((channels, 1), (2 * channels, 2), (4 * channels, 2)):
            blocks += [BasicBlock(wide, out, stride), BasicBlock(out, out, 1), BasicBlock(out, out, 1)]
            wide = out
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(wide, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return self.dense(self.blocks(x).mean((2, 3)))


class PlainViT(nn.Module):
    """A pre-norm Vision Transformer of `nn.TransformerEncoderLayer`s."""

    def __init__(
        self, images: int, size: int, patch: int, width: int, mlp: int, depth: int, heads: int, classes: int = 10
    ) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(images, width, patch, patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, width))
        layer = nn.TransformerEncoderLayer(width, heads, mlp, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.encoder(x)[:, 0]))


class Pictures(Dataset):
    """Images, as PIL opens them, through a transform."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Any) -> None:
        self.images = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).squeeze(-1).numpy()]
        self.labels, self.transform = labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """Take a step as every tutorial does; return the loss."""
    optimizer.zero_grad()
    loss = F.cross_entropy(model(images), labels)
    loss.backward()
    optimizer.step()
    return loss


def train_script(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    train: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    *,
    epochs: int,
    batch: int,
    padding: int,
    normalization: tuple[Sequence[float], Sequence[float]],
    checkpoint: Path,
) -> float:
    """Train a network on augmented images, evaluate it and save it; return its accuracy in percent."""
    plain = [transforms.ToTensor(), transforms.Normalize(*normalization)]
    augmented = [transforms.RandomCrop(train[0].shape[-1], padding), transforms.RandomHorizontalFlip()]
    augmented += [transforms.ColorJitter(0.1, 0.1, 0.1)]
    loader = DataLoader(Pictures(*train, transforms.Compose(augmented + plain)), batch, shuffle=True, drop_last=True)
    test_loader = DataLoader(Pictures(*test, transforms.Compose(plain)), batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
    for _ in range(epochs):
        model.train()
        for images, labels in loader:
            train_step(model, optimizer, images, labels)
            schedule.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test_loader:
            correct += int((model(images).argmax(1) == labels).sum())
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, checkpoint)
    return 100 * correct / len(test[1])


@torch.no_grad()
def correct_between(
    model: nn.Module, states: Sequence[StateDict], weights: Sequence[float], images: Tensor, labels: Tensor
) -> int:
    """Return how many images the network at Σ_i weights[i] states[i] is right on."""
    model.load_state_dict({name: sum(w * state[name] for w, state in zip(weights, states)) for name in states[0]})
    model.eval()
    return sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(images.split(128), labels.split(128)))
