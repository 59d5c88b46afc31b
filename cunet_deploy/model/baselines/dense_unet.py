"""The naive dense U-Net: dense connections inside the blocks of one U-Net instead of between coupled ones.

Every block holds ``num_unets`` dense units in a row, each of which sees the block's input and all units before it. It
is what the paper argues against: as many units as a CU-Net, but one U-Net, and so one chance to see the whole picture.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from cunet_deploy.config import ModelConfig
from cunet_deploy.model.cunet import CatConv, DenseUnit, Head, Stem
from cunet_deploy.model.graph import Builder, Graph

__all__ = ["DenseBlock", "DenseUNet", "build_dense_unet_graph"]


class DenseBlock(nn.Module):
    """Dense units in a row, then adapters back to C channels."""

    def __init__(self, in_channels: int, config: ModelConfig, *, skip: bool) -> None:
        super().__init__()
        growth, end = config.growth, in_channels + config.num_unets * config.growth
        self.units = nn.ModuleList(
            DenseUnit(in_channels + j * growth, growth, config.bottleneck, config.block)
            for j in range(config.num_unets)
        )
        self.ahead = CatConv(end, config.channels, 1, config.block)
        self.skip = CatConv(end, config.channels, 1, config.block) if skip else None

    def forward(self, xs: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Tensors of one resolution to what goes ahead and what crosses over, each (B, C, H, W)."""
        for unit in self.units:
            xs = [*xs, unit(xs)]
        ahead = self.ahead(xs)
        return ahead, ahead if self.skip is None else self.skip(xs)


class DenseUNet(nn.Module):
    """One U-Net of `DenseBlock`; called as `CUNet`, with one head."""

    def __init__(self, config: ModelConfig, num_landmarks: int) -> None:
        super().__init__()
        channels, levels = config.channels, range(config.depth)
        self.stem = Stem(config)
        self.down = nn.ModuleList(DenseBlock(channels, config, skip=True) for _ in levels)
        self.neck = DenseBlock(channels, config, skip=False)
        self.up = nn.ModuleList(DenseBlock(2 * channels, config, skip=False) for _ in levels)
        self.heads = nn.ModuleList([Head(config, num_landmarks)])

    def forward(self, image: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to a list of one (B, P, H/4, W/4) tensor."""
        x, skips = self.stem(image), []
        for block in self.down:
            x, skip = block([x])
            skips.append(skip)
            x = F.max_pool2d(x, 2)
        x, _ = self.neck([x])
        for j in reversed(range(len(self.up))):
            x, _ = self.up[j]([F.interpolate(x, scale_factor=2, mode="nearest"), skips[j]])
        return [self.heads[0](x)]


def build_dense_unet_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    """The operations of `DenseUNet` at inference; it has one head, so ``all_heads`` changes nothing."""
    build = Builder(config, num_landmarks)
    x, skips = build.stem(), []

    def block(xs: list[str], name: str, *, skip: bool) -> tuple[str, str]:
        for j in range(config.num_unets):
            xs = [*xs, build.dense_unit(xs, f"{name}.units.{j}")]
        ahead = build.cat_conv(xs, f"{name}.ahead", config.channels)
        return ahead, build.cat_conv(xs, f"{name}.skip", config.channels) if skip else ahead

    for j in range(config.depth):
        x, kept = block([x], f"down.{j}", skip=True)
        skips.append(kept)
        x = build.pool(x, f"down.{j}.pool")
    x, _ = block([x], "neck", skip=False)
    for j in reversed(range(config.depth)):
        x, _ = block([build.upsample(x, f"up.{j}.upsample"), skips[j]], f"up.{j}", skip=False)
    heatmaps = build.head(x, 0)
    return Graph(tuple(build.nodes), (heatmaps,))
