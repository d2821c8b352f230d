"""The models of the benchmark in PyTorch: the same layers, parameters and optimizers.

Each twin of a model of `models.py` returns logits, and its loss takes them, as users of PyTorch
write it. Plain PyTorch, because torchvision may be missing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional
from torch_vision import MobileNetV2, UNet, cnn, resnet50

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from torch import Tensor

__all__ = ["TWINS", "Twin", "encoder"]


def _adam(parameters: Any) -> Any:
    return torch.optim.Adam(parameters, 0.001, eps=1e-7, fused=True)


def _momentum(parameters: Any) -> Any:
    return torch.optim.SGD(parameters, 0.01, momentum=0.9, nesterov=True, fused=True)


def _rmsprop(parameters: Any) -> Any:
    # PyTorch has no fused RMSprop.
    return torch.optim.RMSprop(parameters, 0.001, alpha=0.9, eps=1e-7, momentum=0.9)


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(logits.flatten(0, -2).float(), labels.flatten())


def _mask_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.float(), mask)


def _masked_entropy(logits: Tensor, labels: tuple[Tensor, Tensor]) -> Tensor:
    ids, weights = labels
    each = functional.cross_entropy(logits.flatten(0, -2).float(), ids.flatten(), reduction="none")
    return (each * weights.flatten()).sum()


def _own_loss(loss: Tensor, _labels: Any) -> Tensor:
    return loss


@dataclass(frozen=True)
class Twin:
    """A model in PyTorch.

    Args:
        build: Returns the module, which maps a batch of inputs to logits.
        optimizer: Returns the optimizer of its parameters.
        loss: Maps logits and labels to the loss.
        is_image: Whether inputs are images, which PyTorch computes with the channels last.
    """

    build: Callable[[], Any]
    optimizer: Callable[[Any], Any] = _adam
    loss: Callable[[Any, Any], Any] = _cross_entropy
    is_image: bool = False


def _mlp(*units: int) -> nn.Module:
    stack: list[nn.Module] = []
    for before, after in itertools.pairwise(units[:-1]):
        stack += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*stack, nn.Linear(*units[-2:]))


class _Attention(nn.Module):  # type: ignore[misc]
    """Self-attention with one projection for queries, keys and values."""

    def __init__(self, width: int, heads: int, causal: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.causal, self.dropout = heads, causal, dropout
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        split = self.project(x).view(rows, length, 3, self.heads, width // self.heads)
        q, k, v = split.permute(2, 0, 3, 1, 4).unbind(0)
        rate = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=self.causal)
        return self.out(y.transpose(1, 2).reshape(rows, length, width))


class _Block(nn.Module):  # type: ignore[misc]
    """A transformer block that normalizes first."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.first, self.second = (nn.LayerNorm(width, eps=1e-3) for _ in range(2))
        self.attention = _Attention(width, heads, causal, 0.0 if causal else 0.1)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        y = self.narrow(functional.gelu(self.wide(self.second(x))))
        return x + self.dropout(y)


class _Transformer(nn.Module):  # type: ignore[misc]
    """Blocks over embedded ids or image patches, pooled or one output per position."""

    def __init__(
        self,
        embed: nn.Module,
        width: int,
        depth: int,
        heads: int,
        outputs: int,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.embed, self.causal = embed, causal
        self.blocks = nn.Sequential(*(_Block(width, heads, causal) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-3)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if x.dim() == 4:
            x = x.flatten(2).transpose(1, 2)
        x = self.norm(self.blocks(x))
        return self.head(x if self.causal else x.mean(1))


def encoder(depth: int = 4) -> nn.Module:
    """Return the transformer encoder with a number of blocks."""
    return _Transformer(nn.Embedding(8000, 512), 512, depth, 8, 10)


class _Recurrent(nn.Module):  # type: ignore[misc]
    """A recurrent layer, and a classifier of its last output."""

    def __init__(self, layer: nn.Module, units: int) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(units, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x)[0][:, -1])


def _lstm(units: int = 512) -> nn.Module:
    layer = nn.LSTM(128, units, batch_first=True)
    # Keras has one bias per gate, PyTorch two: the second stays zero.
    with torch.no_grad():
        layer.bias_hh_l0.zero_()
    layer.bias_hh_l0.requires_grad_(False)
    return _Recurrent(layer, units)


def _gru(units: int = 256) -> nn.Module:
    return _Recurrent(nn.GRU(128, units, 2, batch_first=True), units)


def _recommender(ids: int = 200_000) -> nn.Module:
    return nn.Sequential(nn.Embedding(ids, 64), nn.Flatten(), _mlp(26 * 64, 256, 128, 10))


class _MaskedLanguageModel(nn.Module):  # type: ignore[misc]
    """One encoder layer that normalizes last, and logits of all ids."""

    def __init__(self, ids: int = 30_000, width: int = 128) -> None:
        super().__init__()
        self.embed = nn.Embedding(ids, width)
        self.attention = _Attention(width, 8, causal=False, dropout=0.0)
        self.first, self.second = (nn.LayerNorm(width, eps=1e-6) for _ in range(2))
        self.hidden = _mlp(width, width, width)
        self.dropout = nn.Dropout(0.1)
        self.head = nn.Linear(width, ids)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        x = self.first(x + self.dropout(self.attention(x)))
        return self.head(self.second(x + self.dropout(self.hidden(x))))


class _VectorQuantizedAutoencoder(nn.Module):  # type: ignore[misc]
    """An autoencoder whose latent vectors are rows of a codebook; returns its loss."""

    def __init__(self, latent: int = 16, codes: int = 128) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(1, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(64, latent, 1),
        )
        self.codebook = nn.Parameter(torch.rand(codes, latent) * 0.1 - 0.05)
        self.decoder = nn.Sequential(
            nn.ConvTranspose2d(latent, 64, 3, 2, 1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 3, 2, 1, output_padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 3, 1, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.encoder(images).permute(0, 2, 3, 1)
        rows, book = x.reshape(-1, x.shape[-1]), self.codebook
        squares = rows.square().sum(1, keepdim=True) + book.square().sum(1)
        nearest = (squares - 2 * rows @ book.T).argmin(1)
        chosen = functional.embedding(nearest, book).view(x.shape)
        own = 0.25 * (chosen.detach() - x).square().mean() + (chosen - x.detach()).square().mean()
        through = (x + (chosen - x).detach()).permute(0, 3, 1, 2)
        return (images - self.decoder(through)).square().mean() + own


TWINS = {
    "mlp": Twin(lambda: _mlp(*[2048] * 5, 10)),
    "mlp_rmsprop": Twin(lambda: _mlp(*[2048] * 5, 10), _rmsprop),
    "cnn": Twin(cnn, is_image=True),
    "resnet50": Twin(resnet50, _momentum, is_image=True),
    "mobilenet": Twin(MobileNetV2, is_image=True),
    "unet": Twin(UNet, loss=_mask_entropy, is_image=True),
    "encoder": Twin(encoder),
    "vit": Twin(lambda: _Transformer(nn.Conv2d(3, 256, 8, 8), 256, 4, 4, 10), is_image=True),
    "decoder": Twin(lambda: _Transformer(nn.Embedding(4000, 384), 384, 3, 6, 4000, causal=True)),
    "lstm": Twin(_lstm),
    "gru": Twin(_gru),
    "recommender": Twin(_recommender),
    "tiny": Twin(lambda: _mlp(784, 64, 64, 10)),
    "short_fits": Twin(lambda: _mlp(784, 64, 64, 10)),
    "loop": Twin(lambda: _mlp(*[1024] * 4, 10)),
    "masked_lm": Twin(_MaskedLanguageModel, loss=_masked_entropy),
    "vq_vae": Twin(_VectorQuantizedAutoencoder, loss=_own_loss, is_image=True),
}
