"""Stacked hourglass: the baseline that CU-Net is compared with.

Newell, Yang, Deng: "Stacked Hourglass Networks for Human Pose Estimation", ECCV 2016 (arXiv:1603.06937). Residual
modules with a bottleneck of half the features, sums where CU-Net concatenates, and heatmaps that are fed back into the
next stack.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cunet_deploy.config import ModelConfig
from cunet_deploy.model.cunet import BatchNorm, Head
from cunet_deploy.model.graph import Builder, Graph, Node

__all__ = ["Hourglass", "Level", "Residual", "Stack", "build_hourglass_graph"]


class Residual(nn.Module):
    """BN-ReLU-conv three times, 1x1, 3x3 and 1x1, added to the input; (B, c, H, W) to (B, out_channels, H, W)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.norm1, self.conv1 = BatchNorm(in_channels), nn.Conv2d(in_channels, half, 1)
        self.norm2, self.conv2 = BatchNorm(half), nn.Conv2d(half, half, 3, padding=1)
        self.norm3, self.conv3 = BatchNorm(half), nn.Conv2d(half, out_channels, 1)
        self.skip = nn.Conv2d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv1(F.relu(self.norm1(x)))
        out = self.conv2(F.relu(self.norm2(out)))
        out = self.conv3(F.relu(self.norm3(out)))
        return out + (x if self.skip is None else self.skip(x))  # type: ignore[no-any-return]


class Level(nn.Module):
    """One resolution of an hourglass: a branch that stays and one that goes half as fine and comes back."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.stay, self.down, self.up = (Residual(channels, channels) for _ in range(3))
        self.inner: nn.Module = Level(channels, depth - 1) if depth > 1 else Residual(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        low = self.up(self.inner(self.down(F.max_pool2d(x, 2))))
        return self.stay(x) + F.interpolate(low, scale_factor=2, mode="nearest")  # type: ignore[no-any-return]


class Stack(nn.Module):
    """One hourglass with what is behind it."""

    def __init__(self, config: ModelConfig, num_landmarks: int, *, last: bool) -> None:
        super().__init__()
        channels = config.channels
        self.hourglass = Level(channels, config.depth)
        self.residual = Residual(channels, channels)
        self.conv, self.norm = nn.Conv2d(channels, channels, 1), BatchNorm(channels)
        self.features = None if last else nn.Conv2d(channels, channels, 1)
        self.feedback = None if last else nn.Conv2d(num_landmarks, channels, 1)


class Hourglass(nn.Module):
    """``config.num_unets`` stacked hourglasses of ``config.channels`` features; called as `CUNet`."""

    def __init__(self, config: ModelConfig, num_landmarks: int) -> None:
        super().__init__()
        channels, stacks = config.channels, config.num_unets
        self.config = config
        self.stem = nn.Conv2d(3, channels // 4, 7, stride=2, padding=3)
        self.stem_norm = BatchNorm(channels // 4)
        half = channels // 2
        self.first = nn.ModuleList([Residual(channels // 4, half), Residual(half, half), Residual(half, channels)])
        self.stacks = nn.ModuleList(Stack(config, num_landmarks, last=i == stacks - 1) for i in range(stacks))
        self.heads = nn.ModuleList(Head(_biased(config), num_landmarks) for _ in range(stacks))

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to one (B, P, H/4, W/4) tensor for each supervised stack."""
        x = self.first[0](F.relu(self.stem_norm(self.stem(image))))
        x = self.first[2](self.first[1](F.max_pool2d(x, 2)))
        heatmaps = []
        for i, (stack, head) in enumerate(zip(self.stacks, self.heads, strict=True)):
            assert isinstance(stack, Stack)
            out = F.relu(stack.norm(stack.conv(stack.residual(stack.hourglass(x)))))
            maps = head(out)
            if i in self.config.anchors:
                heatmaps.append(maps)
            if stack.features is not None and stack.feedback is not None:
                x = x + stack.features(out) + stack.feedback(maps)
        return heatmaps


def _biased(config: ModelConfig) -> ModelConfig:
    """Configuration of a network whose head is one convolution with a bias."""
    return ModelConfig(channels=config.channels, block="post")


def build_hourglass_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    """The operations of `Hourglass` at inference."""
    build = _HourglassBuilder(config, num_landmarks)
    x = build.plain("image", "stem", config.channels // 4, kernel=7, stride=2, norm="stem_norm", relu=True)
    x = build.pool(build.residual(x, "first.0", config.channels // 2), "first.pool")
    x = build.residual(build.residual(x, "first.1", config.channels // 2), "first.2", config.channels)
    outputs = []
    for i in range(config.num_unets):
        name, last = f"stacks.{i}", i == config.num_unets - 1
        out = build.residual(build.level(x, f"{name}.hourglass", config.depth), f"{name}.residual", config.channels)
        out = build.plain(out, f"{name}.conv", config.channels, norm=f"{name}.norm", relu=True)
        maps = build.plain(out, f"heads.{i}.conv", num_landmarks, output=f"heads.{i}", relu=last)
        if i in config.anchors and (all_heads or last):
            outputs.append(maps)
        if not last:
            x = build.sum(x, build.plain(out, f"{name}.features", config.channels), f"{name}.sum")
            x = build.sum(x, build.plain(maps, f"{name}.feedback", config.channels), f"{name}.out")
    return Graph(tuple(build.nodes), tuple(outputs))


class _HourglassBuilder(Builder):
    """Builder with the parts of an hourglass."""

    def residual(self, x: str, name: str, channels: int) -> str:
        """`Residual`: two of its three normalizations follow a convolution directly and fold into it."""
        norm = f"{name}.norm1"
        out = self.add(Node("affine", (x,), norm, self.channels[x], self.strides[x], relu=True, norm=norm))
        out = self.plain(out, f"{name}.conv1", channels // 2, norm=f"{name}.norm2", relu=True)
        out = self.plain(out, f"{name}.conv2", channels // 2, kernel=3, norm=f"{name}.norm3", relu=True)
        out = self.plain(out, f"{name}.conv3", channels)
        kept = x if self.channels[x] == channels else self.plain(x, f"{name}.skip", channels)
        return self.sum(out, kept, f"{name}.sum")

    def level(self, x: str, name: str, depth: int) -> str:
        """`Level`."""
        channels = self.config.channels
        low = self.residual(self.pool(x, f"{name}.pool"), f"{name}.down", channels)
        low = (
            self.level(low, f"{name}.inner", depth - 1) if depth > 1 else self.residual(low, f"{name}.inner", channels)
        )
        low = self.upsample(self.residual(low, f"{name}.up", channels), f"{name}.upsample")
        return self.sum(self.residual(x, f"{name}.stay", channels), low, f"{name}.sum")
