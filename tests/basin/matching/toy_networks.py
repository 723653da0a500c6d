"""Small networks for the matching tests. Each has a structure that the derivation of symmetries has to treat specially."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness import streams


def built(factory: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Return a network in eval mode whose weights and statistics are all random, normalization layers included."""
    with streams.seeded(streams.key("toy", seed)):
        network = factory().eval()
        for parameter in network.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        for buffer in network.buffers():
            if buffer.is_floating_point():
                buffer += 0.1 + torch.rand_like(buffer)
    return network


def perceptron(*sizes: int) -> nn.Sequential:
    """Return linear layers with ReLU in between, on flattened images."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convolutional(width: int) -> nn.Sequential:
    """Return convolutions with normalization, then linear layers on flattened channels × pixels."""
    return nn.Sequential(
        *(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(1, 2 * width), nn.SiLU(), nn.Flatten()),
        *(nn.Linear(2 * width * 4, 12), nn.GELU(), nn.Linear(12, 5)),
    )


class Residual(nn.Module):
    """A residual block with a grouped convolution, a depthwise convolution and squeeze-and-excitation."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.grouped = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=groups)
        self.depthwise = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.squeeze = nn.Conv2d(2 * width, 3, 1)
        self.excite = nn.Conv2d(3, 2 * width, 1)
        self.norm = nn.BatchNorm2d(2 * width)
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.grouped(F.relu(self.expand(x)))
        y = self.norm(self.depthwise(F.hardswish(y)))
        squeezed = F.relu(self.squeeze(y.mean((2, 3), keepdim=True)))
        y = y * torch.sigmoid(self.excite(squeezed))
        return x + self.project(y)


def grouped() -> nn.Sequential:
    """Return a network of two residual blocks with grouped and depthwise convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), Residual(8, 4), Residual(8, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    )


class Attention(nn.Module):
    """Self-attention with one projection for queries, keys and values.

    `normalized` applies a LayerNorm whose scales all heads share to queries and keys.
    """

    def __init__(self, width: int, heads: int, normalized: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width // heads) if normalized else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = self.norm(q) @ self.norm(k).transpose(-2, -1)
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, width))


class Transformer(nn.Module):
    """A vision transformer with a class token, position embeddings and pre-norm blocks."""

    def __init__(self, width: int = 24, heads: int = 3, hidden: int = 20, depth: int = 2, normalized: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 5, width))
        self.attention = nn.ModuleList(Attention(width, heads, normalized) for _ in range(depth))
        self.mlp = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))
            for _ in range(depth)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth + 1))
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for norm, attention, mlp in zip(self.norms, self.attention, self.mlp):
            x = x + attention(norm(x))
            x = x + mlp(x)
        return self.head(self.norms[-1](x)[:, 0])


class TorchTransformer(nn.Module):
    """A network around torch's own encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, norm_first=True)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x.reshape(len(x), -1, 12)).mean(1))


class Dense(nn.Module):
    """Concatenated and gated features: axes that are sums."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.third = nn.Conv2d(10, 14, 1)
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        x = self.third(self.norm(torch.cat([x, F.relu(self.second(x))], 1)))
        return self.head(F.glu(x, 1).mean((2, 3)))


class Padded(nn.Module):
    """A shortcut padded with zero channels (option A of He et al. 2016), and a tied weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.conv = nn.Conv2d(6, 10, 3, 2, 1, bias=False)
        self.tied = nn.Linear(10, 10)
        self.again = self.tied
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.conv(x) + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2)))
        x = torch.tanh(self.tied(x.mean((2, 3))))
        return self.head(x + self.again(x))


class Experts(nn.Module):
    """One array with a weight matrix per head, applied by einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = nn.Linear(48, 12)
        self.experts = nn.Parameter(torch.randn(3, 4, 5) / 2)
        self.outputs = nn.Linear(15, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.inputs(x[:, :, ::2, ::2].flatten(1))).unflatten(1, (3, 4))
        return self.outputs(torch.einsum("bhd,hde->bhe", x, self.experts).flatten(1).relu())


class TokenMixer(nn.Module):
    """An MLP over tokens, applied to every channel."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 10, 4, 4)
        self.mixer = nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 4))
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2)
        return self.head((x + self.mixer(x)).mean(2))


class BatchNormBlock(nn.Module):
    """A residual block with BatchNorm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.norm1(self.conv1(x)).relu_()))
        y += x
        return y.relu_()


def batchnorm_resnet() -> nn.Module:
    """Return a residual network with BatchNorm and operations in place."""
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), BatchNormBlock(8), BatchNormBlock(8)),
        *(nn.Conv2d(8, 10, 3, 2, 1), nn.BatchNorm2d(10), nn.ReLU(), BatchNormBlock(10)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 5)),
    )


FACTORIES: dict[str, Callable[[], nn.Module]] = {
    "perceptron": lambda: perceptron(192, 20, 16, 5),
    "convolutional": lambda: convolutional(6),
    "grouped": grouped,
    "transformer": Transformer,
    "normalized attention": lambda: Transformer(normalized=True),
    "torch transformer": TorchTransformer,
    "dense": Dense,
    "padded": Padded,
    "experts": Experts,
}
SHAPE = (2, 3, 8, 8)
