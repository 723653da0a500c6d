"""The baseline of the comparisons: networks, a training step, a training script and interpolation, written without the harness.

The code is what a careful user of PyTorch and torchvision would write, with default settings.
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
    """LayerNorm over the channels of images (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2).contiguous()


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut."""

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
    """ResNet20 with LayerNorm. `channels` is the number of channels of the first stage."""

    def __init__(self, channels: int, image_channels: int = 3, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(image_channels, channels, 3, 1, 1, bias=False)
        self.norm1 = ChannelNorm(channels)
        blocks: list[nn.Module] = []
        width = channels
        for out, stride in ((channels, 1), (2 * channels, 2), (4 * channels, 2)):
            blocks += [BasicBlock(width, out, stride), BasicBlock(out, out, 1), BasicBlock(out, out, 1)]
            width = out
        self.blocks = nn.Sequential(*blocks)
        self.dense = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)))
        return self.dense(self.blocks(x).mean((2, 3)))


class PlainViT(nn.Module):
    """A pre-norm Vision Transformer of `nn.TransformerEncoderLayer`s."""

    def __init__(
        self,
        image_channels: int,
        size: int,
        *,
        patch: int,
        width: int,
        mlp: int,
        depth: int,
        heads: int,
        num_classes: int = 10,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Conv2d(image_channels, width, patch, patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + (size // patch) ** 2, width))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            width, heads, mlp, dropout=dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.head(self.norm(self.encoder(self.dropout(x))[:, 0]))


class PilDataset(Dataset):
    """PIL images with a transform, and labels."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Any) -> None:
        self.images = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).squeeze(-1).numpy()]
        self.labels = labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor) -> Tensor:
    """Take one optimizer step on a batch; return the loss."""
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
    """Train a network on augmented images, evaluate it and save it; return its test accuracy in percent.

    `train` and `test` are uint8 images (n, channels, size, size) and labels (n,).
    """
    to_input = [transforms.ToTensor(), transforms.Normalize(*normalization)]
    augmentation = [
        transforms.RandomCrop(train[0].shape[-1], padding),
        transforms.RandomHorizontalFlip(),
        transforms.ColorJitter(0.1, 0.1, 0.1),
    ]
    train_set = PilDataset(*train, transforms.Compose(augmentation + to_input))
    test_set = PilDataset(*test, transforms.Compose(to_input))
    loader = DataLoader(train_set, batch, shuffle=True, drop_last=True)
    test_loader = DataLoader(test_set, batch)
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
def count_correct_at(
    model: nn.Module, states: Sequence[StateDict], weights: Sequence[float], images: Tensor, labels: Tensor
) -> int:
    """Return how many images the network at Σ_i weights[i] states[i] classifies correctly."""
    interpolated = {}
    for name in states[0]:
        interpolated[name] = sum(weight * state[name] for weight, state in zip(weights, states))
    model.load_state_dict(interpolated)
    model.eval()
    correct = 0
    for batch, targets in zip(images.split(128), labels.split(128)):
        correct += int((model(batch).argmax(1) == targets).sum())
    return correct
