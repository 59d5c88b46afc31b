"""CU-Net: coupled U-Nets with order-K dense connectivity.

Tang, Peng, Geng, Wu, Zhang, Metaxas: "Quantized Densely Connected U-Nets for Efficient Landmark Localization", ECCV
2018 (arXiv:1808.02194), where the network is called DU-Net; "CU-Net: Coupled U-Nets", BMVC 2018 (arXiv:1808.06521).

N U-Nets run one after another. At each resolution and direction (4 down, 1 neck, 4 up for depth 4) they share a place:
a *semantic block*. In it, U-Net i sees, beside its own input, the dense outputs of the K U-Nets before it. There are no
residual additions, only concatenations. Shapes in comments are for channels C, growth g, batch B.

The module that is trained comes first, then the same network as a graph for inference; a test holds both to the same
outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cunet_deploy.config import ModelConfig
from cunet_deploy.model.graph import Builder, Graph

__all__ = [
    "BatchNorm",
    "CUNet",
    "CatConv",
    "DenseUnit",
    "Head",
    "SemanticBlock",
    "Stem",
    "build_cunet_graph",
    "initialize",
    "set_efficient",
    "set_summing",
]

T = TypeVar("T")

MIN_FACTOR = 1e-2
"""Smallest factor of batch normalization in a network of two passes; see `CUNet.keep_positive`."""


class BatchNorm(nn.BatchNorm2d):
    """Batch normalization whose running statistics can be held while a checkpointed block is recomputed.

    With `summing`, which adds a tensor up over all processes that train together, the statistics are those of the whole
    batch, of which this process has a part.
    """

    hold_statistics = False
    summing: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W), normalized."""
        momentum = 0.0 if self.hold_statistics else (self.momentum or 0.0)
        if self.training and self.summing is not None:
            return self._of_whole_batch(x, self.summing, momentum)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, self.training, momentum, self.eps
        )

    def _of_whole_batch(self, x: Tensor, summing: Callable[[Tensor], Tensor], momentum: float) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        # around a mean that all processes know, so that one sum of squares is exact enough
        pivot = self.running_mean.clone()
        deviations = x.float() - pivot[:, None, None]
        cells = deviations.new_full((1,), x.numel() / x.shape[1])
        sums = summing(torch.cat([deviations.sum(dim=(0, 2, 3)), deviations.square().sum(dim=(0, 2, 3)), cells]))
        count = sums[-1].detach()
        shift, squares = (sums[:-1] / count).chunk(2)
        variance = (squares - shift.square()).clamp(min=0)
        with torch.no_grad():
            self.running_mean.lerp_(pivot + shift, momentum)
            self.running_var.lerp_(variance * count / (count - 1).clamp(min=1), momentum)
        factor = self.weight * torch.rsqrt(variance + self.eps)
        return ((deviations - shift[:, None, None]) * factor[:, None, None] + self.bias[:, None, None]).to(x.dtype)


class CatConv(nn.Module):
    """Concatenate, then a convolution with its BN and ReLU, before it ("pre", the paper) or behind it ("post").

    With ``efficient`` set, training keeps only the inputs and computes concatenation, BN and ReLU again in the backward
    pass (Pleiss et al., arXiv:1707.06990). The running statistics are updated once, in the first pass.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, block: str, passes: int = 1) -> None:
        super().__init__()
        self.norm = BatchNorm(in_channels if block == "pre" else out_channels)
        if passes > 1:
            self.norm_again = BatchNorm(self.norm.num_features)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
        self.block = block
        self.efficient = False

    def _forward(self, norm: BatchNorm, *xs: Tensor) -> Tensor:
        x = torch.cat(xs, dim=1) if len(xs) > 1 else xs[0]
        if self.block == "pre":
            x = F.relu(norm(x))
            return self.conv(x)  # type: ignore[no-any-return]
        return F.relu(norm(self.conv(x)))

    def forward(self, xs: list[Tensor], iteration: int = 0) -> Tensor:
        """Tensors of one resolution, (B, c_i, H, W) each, to (B, out_channels, H, W); ``iteration``: the pass."""
        norm = self.norm_again if iteration else self.norm
        if self.efficient and self.training and torch.is_grad_enabled():
            out = checkpoint(self._forward, norm, *xs, use_reentrant=False, context_fn=partial(_contexts, norm))
            assert isinstance(out, Tensor)
            return out
        return self._forward(norm, *xs)


@contextmanager
def _recomputing(norm: BatchNorm) -> Iterator[None]:
    norm.hold_statistics = True
    try:
        yield
    finally:
        norm.hold_statistics = False


def _contexts(norm: BatchNorm) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _recomputing(norm)


class DenseUnit(nn.Module):
    """1x1 convolution to a bottleneck, 3x3 convolution to ``growth`` channels."""

    def __init__(self, in_channels: int, growth: int, bottleneck: int, block: str, passes: int = 1) -> None:
        super().__init__()
        self.squeeze = CatConv(in_channels, bottleneck * growth, 1, block, passes)
        self.grow = CatConv(bottleneck * growth, growth, 3, block, passes)

    def forward(self, xs: list[Tensor], iteration: int = 0) -> Tensor:
        """Tensors of one resolution, (B, c_i, H, W) each, to (B, growth, H, W)."""
        return self.grow([self.squeeze(xs, iteration)], iteration)  # type: ignore[no-any-return]


class SemanticBlock(nn.Module):
    """One resolution and direction: for each of the N U-Nets a dense unit and adapters back to C channels.

    ``ahead`` goes on along the U-Net, ``skip`` (down blocks only) crosses to the up block of the same resolution.
    """

    def __init__(self, in_channels: int, config: ModelConfig, *, skip: bool) -> None:
        super().__init__()
        widths = [in_channels + min(i, config.order) * config.growth for i in range(config.num_unets)]
        self.units = nn.ModuleList(
            DenseUnit(width, config.growth, config.bottleneck, config.block, config.passes) for width in widths
        )
        self.ahead, self.skip = (
            nn.ModuleList(
                CatConv(width + config.growth, config.channels, 1, config.block, config.passes) for width in some
            )
            for some in (widths, widths if skip else [])
        )

    def forward(
        self, xs: list[Tensor], history: list[Tensor], i: int, iteration: int = 0
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Run U-Net i's part.

        Args:
            xs: the block's own input (up blocks: upsampled, then skip), each (B, C, H, W).
            history: up to K dense outputs of earlier U-Nets, oldest first, each (B, g, H, W).
            i: which U-Net.
            iteration: which pass, 0 or 1.

        Returns:
            ahead and skip, each (B, C, H, W) (skip is ahead where there is no skip adapter), and the dense output to
            put into the history, in a list.
        """
        xs = [*xs, *history]
        dense = self.units[i](xs, iteration)
        xs = [*xs, dense]
        ahead = self.ahead[i](xs, iteration)
        return ahead, self.skip[i](xs, iteration) if len(self.skip) else ahead, [dense]


class Stem(nn.Module):
    """(B, 3, H, W) image to (B, C, H/4, W/4) features."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.kind = config.stem
        if config.stem in ("conv7", "s2d"):
            stride = 2 if config.stem == "conv7" else 4
            self.conv = nn.Conv2d(3, config.channels, 7, stride=stride, padding=3, bias=False)
            self.norm = BatchNorm(config.channels)
        else:
            half = config.channels // 2
            self.conv = nn.Conv2d(3, half, 3, stride=2, padding=1, bias=False)
            self.norm = BatchNorm(half)
            self.conv2 = nn.Conv2d(half, config.channels, 3, stride=2, padding=1, bias=False)
            self.norm2 = BatchNorm(config.channels)

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        x = F.relu(self.norm(self.conv(image)))
        if self.kind == "conv7":
            return F.max_pool2d(x, 2)
        return x if self.kind == "s2d" else F.relu(self.norm2(self.conv2(x)))


class Head(nn.Module):
    """(B, C, H, W) features to (B, P, H, W) heatmaps: BN-ReLU-conv ("pre", the paper), or a biased conv ("post")."""

    def __init__(self, config: ModelConfig, num_landmarks: int) -> None:
        super().__init__()
        self.norm = BatchNorm(config.channels) if config.block == "pre" else None
        self.conv = nn.Conv2d(config.channels, num_landmarks, 1, bias=config.block == "post")

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.conv(x if self.norm is None else F.relu(self.norm(x)))  # type: ignore[no-any-return]


class CUNet(nn.Module):
    """N coupled U-Nets.

    Args:
        config: the architecture.
        num_landmarks: P, heatmaps per U-Net.

    Call with (B, 3, H, W) images, H and W multiples of ``config.input_multiple``; returns one (B, P, H/4, W/4) tensor
    of heatmaps for each supervised U-Net, the last one last; with two passes, those of the second follow.
    """

    def __init__(self, config: ModelConfig, num_landmarks: int) -> None:
        super().__init__()
        self.config = config
        self.num_landmarks = num_landmarks
        channels, levels = config.channels, range(config.depth)
        self.stem = Stem(config)
        self.down = nn.ModuleList(SemanticBlock(channels, config, skip=True) for _ in levels)  # finest first
        self.neck = SemanticBlock(channels, config, skip=False)
        self.up = nn.ModuleList(SemanticBlock(2 * channels, config, skip=False) for _ in levels)  # finest first
        self.inter = nn.ModuleList(
            CatConv(channels * (1 + min(i, config.order)), channels, 1, config.block, config.passes)
            for i in range(1, config.num_unets)
        )
        self.merge = CatConv(2 * channels, channels, 1, config.block) if config.passes > 1 else None
        self.heads = nn.ModuleList(Head(config, num_landmarks) for _ in range(config.num_unets))
        second = config.num_unets if config.passes > 1 else 0  # heads are small: each pass has its own
        self.heads_again = nn.ModuleList(Head(config, num_landmarks) for _ in range(second))

    def keep_positive(self) -> None:
        """Keep the factors of batch normalization above zero, so that two passes can share integer weights."""
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, BatchNorm):
                    module.weight.clamp_(min=MIN_FACTOR)

    def forward(self, image: Tensor) -> list[Tensor]:
        """See the class."""
        start = self.stem(image)  # (B, C, H/4, W/4)
        x, heatmaps = self._pass(start, 0)
        if self.merge is not None:
            heatmaps += self._pass(self.merge([start, x]), 1)[1]
        return heatmaps

    def _pass(self, x: Tensor, iteration: int) -> tuple[Tensor, list[Tensor]]:
        """All U-Nets on (B, C, H/4, W/4) features: those behind the last one, and the heatmaps."""
        order = self.config.order
        down: list[list[Tensor]] = [[] for _ in self.down]
        up: list[list[Tensor]] = [[] for _ in self.up]
        neck: list[Tensor] = []
        between: list[Tensor] = _last([x], order)
        heatmaps: list[Tensor] = []
        for i in range(self.config.num_unets):
            if i > 0:
                x = self.inter[i - 1]([x, *between], iteration)
                between = _last([*between, x], order)
            skips: list[Tensor] = []
            for j, block in enumerate(self.down):
                x, skip, new = block([x], down[j], i, iteration)
                down[j] = _last([*down[j], *new], order)
                skips.append(skip)
                x = F.max_pool2d(x, 2)
            x, _, new = self.neck([x], neck, i, iteration)
            neck = _last([*neck, *new], order)
            for j in reversed(range(len(self.up))):
                x = F.interpolate(x, scale_factor=2, mode="nearest")
                x, _, new = self.up[j]([x, skips[j]], up[j], i, iteration)
                up[j] = _last([*up[j], *new], order)
            if i in self.config.anchors:
                heatmaps.append((self.heads_again if iteration else self.heads)[i](x))  # (B, P, H/4, W/4)
        return x, heatmaps


def _last(history: list[T], order: int) -> list[T]:
    """Dense outputs so far that the next U-Net sees."""
    return history[-order:] if order else []


def build_cunet_graph(config: ModelConfig, num_landmarks: int, *, all_heads: bool = False) -> Graph:
    """The operations of `CUNet` at inference; see `cunet_deploy.model.networks.build_graph`."""
    build = Builder(config, num_landmarks)
    start = build.stem()
    last = config.passes == 1
    x, outputs = _unets(build, start, all_heads=all_heads, last_head=last)
    if not last:
        x = build.cat_conv([start, x], "merge", config.channels)
        build.iteration = 1
        outputs += _unets(build, x, all_heads=all_heads, last_head=True)[1]
    return Graph(tuple(build.nodes), tuple(outputs))


def _block(build: Builder, xs: list[str], history: list[str], name: str, i: int, *, skip: bool) -> tuple[str, str, str]:
    """U-Net i's part of a `SemanticBlock`: ahead, skip and the dense output."""
    xs = [*xs, *history]
    dense = build.dense_unit(xs, f"{name}.units.{i}")
    xs = [*xs, dense]
    ahead = build.cat_conv(xs, f"{name}.ahead.{i}", build.config.channels)
    return ahead, build.cat_conv(xs, f"{name}.skip.{i}", build.config.channels) if skip else ahead, dense


def _unets(build: Builder, x: str, *, all_heads: bool, last_head: bool) -> tuple[str, list[str]]:
    """One pass through all U-Nets: the features behind the last one, and the wanted heads."""
    config = build.config
    order, levels = config.order, range(config.depth)
    down: list[list[str]] = [[] for _ in levels]
    up: list[list[str]] = [[] for _ in levels]
    neck: list[str] = []
    between = _last([x], order)
    outputs = []
    for i in range(config.num_unets):
        if i > 0:
            x = build.cat_conv([x, *between], f"inter.{i - 1}", config.channels)
            between = _last([*between, x], order)
        skips = []
        for j in levels:
            x, skip, dense = _block(build, [x], down[j], f"down.{j}", i, skip=True)
            down[j] = _last([*down[j], dense], order)
            skips.append(skip)
            x = build.pool(x, f"down.{j}.pool.{i}")
        x, _, dense = _block(build, [x], neck, "neck", i, skip=False)
        neck = _last([*neck, dense], order)
        for j in reversed(levels):
            x = build.upsample(x, f"up.{j}.upsample.{i}")
            x, _, dense = _block(build, [x, skips[j]], up[j], f"up.{j}", i, skip=False)
            up[j] = _last([*up[j], dense], order)
        if i in config.anchors and (all_heads or (last_head and i == config.num_unets - 1)):
            outputs.append(build.head(x, i))
    return x, outputs


def set_efficient(model: nn.Module, on: bool) -> None:
    """Turn memory-efficient training on or off for every 1x1 convolution on a concatenation.

    The 3x3 convolutions and the heads keep their inputs, as in the paper.
    """
    for module in model.modules():
        if isinstance(module, CatConv):
            module.efficient = on and module.conv.kernel_size == (1, 1)


def set_summing(model: nn.Module, summing: Callable[[Tensor], Tensor]) -> None:
    """Give every batch normalization a function that adds a tensor up over processes; see `BatchNorm`."""
    for module in model.modules():
        if isinstance(module, BatchNorm):
            module.summing = summing


def initialize(model: nn.Module, generator: torch.Generator) -> None:
    """Kaiming-normal convolutions, heads near zero, BN at identity.

    Heads start near zero because heatmaps are nearly empty: with ordinary weights the first loss is many times that of
    an all-zero prediction and training stays on that plateau for epochs.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in (module for module in model.modules() if isinstance(module, Head)):
        nn.init.normal_(head.conv.weight, std=1e-3, generator=generator)
