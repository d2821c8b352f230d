"""The image models of the benchmark in PyTorch, layer by layer those of `models.py`.

Padding of strided convolutions is even on both sides, as users of PyTorch write it; Keras pads at
the end. Sizes and costs are the same. The models return logits.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["MobileNetV2", "UNet", "cnn", "resnet50"]


def _norm(channels: int, epsilon: float = 1e-3, momentum: float = 0.01) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=epsilon, momentum=momentum)


def _conv_norm(channels: int, filters: int, stride: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
    return [conv, _norm(filters), nn.ReLU(inplace=True)]


def cnn() -> nn.Module:
    """Return six convolutions with BatchNorm and ReLU, and a classifier of ten classes."""
    stack: list[nn.Module] = []
    channels = 3
    for filters in (64, 128, 256):
        for stride in (1, 2):
            stack += _conv_norm(channels, filters, stride)
            channels = filters
    return nn.Sequential(*stack, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10))


class _Bottleneck(nn.Module):  # type: ignore[misc]
    """A block of ResNet as in keras.applications: with biases, and its stride in front."""

    def __init__(self, channels: int, filters: int, stride: int, shortcut: bool) -> None:
        super().__init__()
        wide = 4 * filters
        self.body = nn.Sequential(
            nn.Conv2d(channels, filters, 1, stride),
            _norm(filters, 1.001e-5),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters, filters, 3, 1, 1),
            _norm(filters, 1.001e-5),
            nn.ReLU(inplace=True),
            nn.Conv2d(filters, wide, 1),
            _norm(wide, 1.001e-5),
        )
        self.shortcut = (
            nn.Sequential(nn.Conv2d(channels, wide, 1, stride), _norm(wide, 1.001e-5))
            if shortcut
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.body(x) + self.shortcut(x), inplace=True)


def resnet50(classes: int = 100) -> nn.Module:
    """Return ResNet50 as in keras.applications."""
    stack: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3), _norm(64, 1.001e-5), nn.ReLU(inplace=True)]
    stack.append(nn.MaxPool2d(3, 2, 1))
    channels = 64
    for filters, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            first = block == 0
            stack.append(_Bottleneck(channels, filters, stride if first else 1, first))
            channels = 4 * filters
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]
    return nn.Sequential(*stack, *head)


class _InvertedResidual(nn.Module):  # type: ignore[misc]
    """A block of MobileNetV2."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        body: list[nn.Module] = []
        if expansion > 1:
            body += [nn.Conv2d(channels, wide, 1, bias=False), _norm(wide, momentum=0.001)]
            body.append(nn.ReLU6(inplace=True))
        body += [nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False)]
        body += [_norm(wide, momentum=0.001), nn.ReLU6(inplace=True)]
        body += [nn.Conv2d(wide, filters, 1, bias=False), _norm(filters, momentum=0.001)]
        self.body = nn.Sequential(*body)
        self.is_residual = stride == 1 and channels == filters

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.is_residual else self.body(x)


class MobileNetV2(nn.Sequential):  # type: ignore[misc]
    """MobileNetV2 as in keras.applications."""

    # Expansion, filters, blocks, stride of the first block.
    _STAGES = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(self, classes: int = 100) -> None:
        stack = [nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32, momentum=0.001)]
        stack.append(nn.ReLU6(inplace=True))
        channels = 32
        for expansion, filters, blocks, stride in self._STAGES:
            for block in range(blocks):
                own = stride if block == 0 else 1
                stack.append(_InvertedResidual(channels, filters, own, expansion))
                channels = filters
        stack += [nn.Conv2d(channels, 1280, 1, bias=False), _norm(1280, momentum=0.001)]
        stack += [nn.ReLU6(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(*stack, nn.Linear(1280, classes))


class UNet(nn.Module):  # type: ignore[misc]
    """A U-Net with two levels, for a mask of one channel."""

    def __init__(self, filters: int = 32) -> None:
        super().__init__()

        def block(channels: int, width: int) -> nn.Module:
            return nn.Sequential(*_conv_norm(channels, width), *_conv_norm(width, width))

        self.top = block(3, filters)
        self.middle = block(filters, filters * 2)
        self.bottom = block(filters * 2, filters * 4)
        self.up_middle = nn.ConvTranspose2d(filters * 4, filters * 2, 2, 2)
        self.down_middle = block(filters * 4, filters * 2)
        self.up_top = nn.ConvTranspose2d(filters * 2, filters, 2, 2)
        self.down_top = block(filters * 2, filters)
        self.head = nn.Conv2d(filters, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a mask."""
        top = self.top(x)
        middle = self.middle(functional.max_pool2d(top, 2))
        bottom = self.bottom(functional.max_pool2d(middle, 2))
        x = self.down_middle(torch.cat([self.up_middle(bottom), middle], 1))
        return self.head(self.down_top(torch.cat([self.up_top(x), top], 1)))
