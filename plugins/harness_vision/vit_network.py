"""A small Vision Transformer, as in UvA deep learning tutorial 15 (Lippe 2022). Knows nothing of plugins.

Initialization is the tutorial's: class token and position embeddings from N(0, 1), all else by PyTorch's defaults, attention by
those of `nn.MultiheadAttention`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ViTNetwork(nn.Module):
    """Patch embedding, class token, learned position embeddings, pre-norm blocks, LayerNorm and head on the class token."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int,
        *,
        patch: int,
        width: int,
        mlp: int,
        depth: int,
        heads: int,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()
        self.patches = Patches(shape, patch)
        self.embedding = nn.Linear(self.patches.pixels, width)
        self.class_token = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 1 + self.patches.count, width))
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential()
        for _ in range(depth):
            self.blocks.append(Block(width, mlp, heads, dropout, attention_dropout))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(self.patches(x))  # (batch, patches, width)
        x = torch.cat([self.class_token.expand(x.shape[0], -1, -1), x], dim=1)  # (batch, 1 + patches, width)
        x = self.dropout(x + self.positions)
        x = self.blocks(x)
        return self.head(self.norm(x[:, 0]))  # (batch, classes)


class Patches(nn.Module):
    """Cut images (batch, channels, height, width) into flattened patches (batch, count, pixels), row by row."""

    def __init__(self, shape: tuple[int, int, int], patch: int) -> None:
        super().__init__()
        self.channels, height, width = shape
        self.patch = patch
        self.rows = height // patch
        self.columns = width // patch
        self.count = self.rows * self.columns
        self.pixels = self.channels * patch * patch

    def forward(self, x: Tensor) -> Tensor:
        x = x.reshape(-1, self.channels, self.rows, self.patch, self.columns, self.patch)
        x = x.permute(0, 2, 4, 1, 3, 5)  # (batch, rows, columns, channels, patch, patch)
        return x.reshape(-1, self.count, self.pixels)


class Block(nn.Module):
    """x + attention(LayerNorm(x)), then x + MLP(LayerNorm(x)): pre-norm, Xiong et al. 2020."""

    def __init__(self, width: int, mlp: int, heads: int, dropout: float, attention_dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads, attention_dropout)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, mlp)
        self.linear2 = nn.Linear(mlp, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        hidden = self.dropout(F.gelu(self.linear1(self.norm2(x))))
        return x + self.dropout(self.linear2(hidden))


class Attention(nn.Module):
    """Multi-head self-attention, with dropout on the attention weights.

    `qkv.weight`, (3 × width, width), holds the projections to queries, keys and values as three blocks of `width` rows, in this
    order; each block holds the heads in order. This is the layout of `nn.MultiheadAttention.in_proj_weight`.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.scale = (width // heads) ** -0.5
        self.dropout = nn.Dropout(dropout)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = self.qkv(x).chunk(3, dim=-1)
        queries = self.split(queries)
        keys = self.split(keys)
        values = self.split(values)
        # While the network is traced, `x` is a symbol without a device: a parameter has one.
        if next(self.parameters()).is_cuda and not (self.training and self.dropout.p):
            x = F.scaled_dot_product_attention(queries, keys, values, scale=self.scale)
        else:
            x = plain_attention(queries, keys, values, self.dropout, self.scale)
        return self.out(x.transpose(1, 2).flatten(2))  # (batch, heads, tokens, width / heads) -> (batch, tokens, width)

    def split(self, x: Tensor) -> Tensor:
        """Return (batch, heads, tokens, width / heads) from (batch, tokens, width)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def plain_attention(queries: Tensor, keys: Tensor, values: Tensor, dropout: nn.Module, scale: float) -> Tensor:
    """Return scaled dot-product attention, computed without a fused kernel; all (batch, heads, tokens, width / heads).

    On the CPU, PyTorch's fused kernel has no dropout: with dropout `F.scaled_dot_product_attention` computes the same as this
    function, at equal cost in float32, and in bfloat16 takes two to six times as long, forward and backward. On CUDA its
    dropout masks come from torch's global generator, not from `dropout`. The attention weights of few tokens fit in memory.
    """
    weights = ((queries * scale) @ keys.transpose(-2, -1)).softmax(-1)  # (batch, heads, tokens, tokens)
    return dropout(weights) @ values
