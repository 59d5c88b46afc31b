"""Settings: frozen dataclasses that check themselves, read from TOML.

A configuration file has one table for each class below; every key has a default but ``name``, ``skeleton`` and
``[data] train``. An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cunet_deploy._toml import check as _check
from cunet_deploy._toml import parse, read_toml
from cunet_deploy.errors import ConfigError

__all__ = [
    "WEIGHT_FORMATS",
    "AugmentConfig",
    "Config",
    "CropConfig",
    "DataConfig",
    "HeatmapConfig",
    "ModelConfig",
    "QuantConfig",
    "TrainConfig",
    "load_bits",
    "load_config",
    "parse_config",
]


@dataclass(frozen=True)
class ModelConfig:
    """The network; defaults are the paper's CU-Net-2.

    Attributes:
        kind: "cunet", or one of the paper's baselines: "hourglass" (Newell et al., ECCV 2016: ``num_unets`` stacks of
            ``channels`` features) or "dense_unet" (one U-Net, ``num_unets`` dense units in a row in every block).
        num_unets: N, how many U-Nets are coupled.
        order: K, how many earlier U-Nets each block sees; 0 <= K < N.
        num_losses: L, how many U-Nets are supervised; 0 means all N.
        channels: C, width of the features between blocks.
        growth: g, channels that a dense unit adds.
        bottleneck: b; the 1x1 convolution of a dense unit has b * g channels.
        depth: number of times a U-Net halves the resolution.
        block: "pre" is the paper's BN-ReLU-conv on concatenations; "post" is conv-BN-ReLU, in which every BN folds.
        stem: "conv7" is the paper's 7x7 stride 2 and max pool; "conv3x2" is two 3x3 convolutions of stride 2;
            "s2d" is one 7x7 convolution of stride 4, which CPUs run as a 2x2 one on blocks of pixels (space to depth).
        passes: 2 is the paper's iterative refinement: all U-Nets run again with the same convolutions and their own
            batch normalization, on the image's features merged with the first pass's; both passes are supervised.
    """

    kind: Literal["cunet", "hourglass", "dense_unet"] = "cunet"
    num_unets: int = 2
    order: int = 1
    num_losses: int = 0
    channels: int = 128
    growth: int = 32
    bottleneck: int = 4
    depth: int = 4
    block: Literal["pre", "post"] = "pre"
    stem: Literal["conv7", "conv3x2", "s2d"] = "conv7"
    passes: int = 1

    def __post_init__(self) -> None:
        if self.kind != "cunet":
            _check(self.order == 0, f"[model] kind {self.kind!r} has no dense order; set order = 0")
            _check(self.passes == 1, f"[model] kind {self.kind!r} makes one pass; set passes = 1")
        if self.kind == "hourglass":
            _check(self.block == "pre", '[model] kind "hourglass" comes with block = "pre" only')
            _check(self.stem == "conv7", '[model] kind "hourglass" comes with stem = "conv7" only')
            _check(self.channels % 4 == 0, f"[model] channels of an hourglass must divide by 4, got {self.channels}")
        _check(self.passes in (1, 2), f"[model] passes must be 1 or 2, got {self.passes}")
        for name in ("num_unets", "channels", "growth", "bottleneck", "depth"):
            _check(getattr(self, name) >= 1, f"[model] {name} must be at least 1, got {getattr(self, name)}")
        _check(
            0 <= self.order < max(self.num_unets, 1),
            f"[model] order must be from 0 to num_unets - 1 = {self.num_unets - 1}, got {self.order}",
        )
        _check(
            0 <= self.num_losses <= self.num_unets,
            f"[model] num_losses must be from 0 (all) to num_unets = {self.num_unets}, got {self.num_losses}",
        )
        _check(self.channels % 2 == 0, f"[model] channels must be even, got {self.channels}")

    @property
    def stride(self) -> int:
        """Input pixels per heatmap cell."""
        return 4

    @property
    def input_multiple(self) -> int:
        """The input's side must be a multiple of this."""
        return int(self.stride * 2**self.depth)

    @property
    def anchors(self) -> tuple[int, ...]:
        """Indices (0-based, ascending) of the supervised U-Nets; the last one is always among them.

        A naive dense U-Net has one head, behind its end.

        Anchor k of L is U-Net N (k + 1) / L, rounded half up (the authors' Python 2 rounds so; Python 3 does not).
        """
        if self.kind == "dense_unet":
            return (0,)
        count = self.num_losses or self.num_unets
        return tuple((2 * self.num_unets * (k + 1) + count) // (2 * count) - 1 for k in range(count))


@dataclass(frozen=True)
class CropConfig:
    """How a box becomes the network's input.

    Attributes:
        size: side of the input in pixels.
        padding: side of the crop divided by the longer side of the tight landmark box.
    """

    size: int = 256
    padding: float = 1.4

    def __post_init__(self) -> None:
        _check(self.size >= 32, f"[crop] size must be at least 32, got {self.size}")
        _check(self.padding > 0, f"[crop] padding must be positive, got {self.padding}")


@dataclass(frozen=True)
class HeatmapConfig:
    """Targets and decoding.

    Attributes:
        sigma: standard deviation of the target Gaussian, in map cells.
        radius: the decoder's window, in map cells (see `cunet_deploy.heatmaps.Decoder`).
        foreground_weight: w in the loss mean((1 + w * target) * (prediction - target)^2).
    """

    sigma: float = 1.2
    radius: int = 1
    foreground_weight: float = 9.0

    def __post_init__(self) -> None:
        _check(self.sigma > 0, f"[heatmap] sigma must be positive, got {self.sigma}")
        _check(1 <= self.radius <= 8, f"[heatmap] radius must be from 1 to 8, got {self.radius}")
        _check(
            self.foreground_weight >= 0,
            f"[heatmap] foreground_weight must not be negative, got {self.foreground_weight}",
        )


@dataclass(frozen=True)
class DataConfig:
    """Where the examples are.

    Attributes:
        train: folders below ``--data`` to train on.
        validation_fraction: share of the photos of ``train`` that is held back to show progress.
        layout: how the folders are laid out; "300w" is NAME.jpg beside NAME.pts.
        licence: what the data allows; written into checkpoint, bundle and card.
    """

    train: tuple[str, ...] = ()
    validation_fraction: float = 0.05
    layout: Literal["300w"] = "300w"
    licence: str = "unknown"

    def __post_init__(self) -> None:
        _check(len(self.train) > 0, "[data] train must name at least one folder below --data")
        _check(
            0 <= self.validation_fraction < 1,
            f"[data] validation_fraction must be in [0, 1), got {self.validation_fraction}",
        )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training examples. Standard deviations of clipped normals unless said.

    Attributes:
        scale: of log2 of the crop's side; clipped at twice that.
        shift: of the crop's centre, as a share of its side; clipped at twice that.
        rotation: in degrees; clipped at twice that.
        flip: probability of mirroring.
        gain: half-range of the uniform per-channel gain around 1.
        brightness: half-range of the uniform offset, in grey levels.
        blur: probability of a Gaussian blur.
        erase: probability of a filled rectangle over part of the crop.
        negative: share of examples that show background only and have empty targets.
    """

    scale: float = 0.2
    shift: float = 0.06
    rotation: float = 20.0
    flip: float = 0.5
    gain: float = 0.3
    brightness: float = 25.0
    blur: float = 0.15
    erase: float = 0.25
    negative: float = 0.0

    def __post_init__(self) -> None:
        for name in ("scale", "shift", "rotation", "gain", "brightness"):
            _check(getattr(self, name) >= 0, f"[augment] {name} must not be negative, got {getattr(self, name)}")
        for name in ("flip", "blur", "erase", "negative"):
            _check(0 <= getattr(self, name) <= 1, f"[augment] {name} is a probability, got {getattr(self, name)}")


@dataclass(frozen=True)
class TrainConfig:
    """The float phase of training: AdamW with a one-cycle learning rate.

    Attributes:
        epochs: passes over the training photos.
        batch_size: examples per step.
        learning_rate: peak of the cycle.
        weight_decay: of AdamW, on convolution weights only.
        ema_decay: per step, of the averaged weights that are evaluated and saved; 0 turns averaging off.
        precision: "bfloat16" runs the convolutions in bfloat16 with float32 weights; about 1.5 times faster on CPUs
            that have it.
        memory_efficient: keep less for the backward pass and compute it again: about half the memory, more time. See
            docs/tables.md for what this and ``saved_bits`` bring.
        saved_bits: 8 keeps activations for the backward pass as bytes, a quarter of the memory; 32 as they are. See
            `cunet_deploy.train.saved`.
        coordinate_weight: weight of the landmark error term; see `cunet_deploy.train.loss`.
        distill: weight of the squared distance to the heatmaps of the network that ``train --teacher`` names.
        seed: of the initial weights, the order of the examples and their augmentation.
        validate_every: epochs between validations.
    """

    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    ema_decay: float = 0.998
    precision: Literal["float32", "bfloat16"] = "float32"
    memory_efficient: bool = False
    saved_bits: int = 32
    coordinate_weight: float = 0.0
    distill: float = 0.0
    seed: int = 0
    validate_every: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("validate_every", 1), ("seed", 0)):
            _check(getattr(self, name) >= least, f"[train] {name} must be at least {least}, got {getattr(self, name)}")
        for name in ("coordinate_weight", "distill", "weight_decay"):
            _check(getattr(self, name) >= 0, f"[train] {name} must not be negative, got {getattr(self, name)}")
        _check(self.saved_bits in (8, 32), f"[train] saved_bits must be 8 or 32, got {self.saved_bits}")
        _check(self.learning_rate > 0, f"[train] learning_rate must be positive, got {self.learning_rate}")
        _check(0 <= self.ema_decay < 1, f"[train] ema_decay must be in [0, 1), got {self.ema_decay}")


WEIGHT_FORMATS = ("1", "ternary", "2", "3", "4", "5", "6", "7", "8")
"""What weights can be rounded to: binary and ternary with a scale per filter, or uniform steps of 2 to 8 bits."""


@dataclass(frozen=True)
class QuantConfig:
    """The quantized phase of training, which starts from the float weights.

    In the paper's notation QIG(818) is 8-bit inputs, 1-bit weights and 8-bit gradients: ``activation_bits = 8``,
    ``weight_bits = 1``, ``gradient_bits = 8``.

    Attributes:
        weight_bits: of every convolution's weights: 2 to 8 with a learned step per output channel, or 1: binary with
            the mean magnitude of each filter as its scale.
        ternary: with ``weight_bits = 2``: -1, 0 and 1 by the threshold rule of ternary weight networks.
        activation_bits: of every convolution's input, 2 to 8.
        gradient_bits: of the gradients of weights and features, 4 to 16, rounded stochastically; 32 is float. An
            emulation: it shows what such training reaches and is slower than float gradients. Latent weights stay
            float.
        edge_bits: of the weights of the first and last layers (``stem.*`` and ``heads.*``).
        layers: weight format by layer name or pattern, for example ``"down.0.*" = "4"``; see `WEIGHT_FORMATS`.
        progressive: weight formats to pass through on the way, for example ``["8", "4"]``; each has an equal share of
            the epochs, the final one included.
        distill: weight of the squared distance to the float parent's heatmaps in the loss.
        correct_bias: at the end shift biases so that the mean of every channel is the float parent's. Batch
            normalization is folded at this point, so this is what estimating its statistics again comes to.
        weight_decay: of AdamW on the latent weights.
        epochs: passes over the training photos; 0 means none: train float only.
        learning_rate: peak; decays to zero along a cosine.
        calibration_examples: how many training crops set the first scales.
    """

    weight_bits: int = 8
    ternary: bool = False
    activation_bits: int = 8
    gradient_bits: int = 32
    edge_bits: int = 8
    layers: dict[str, str] = field(default_factory=dict)
    progressive: tuple[str, ...] = ()
    distill: float = 0.0
    correct_bias: bool = False
    weight_decay: float = 0.0
    epochs: int = 0
    learning_rate: float = 1e-4
    calibration_examples: int = 256

    def __post_init__(self) -> None:
        for name, low, high in (("weight_bits", 1, 8), ("activation_bits", 2, 8), ("edge_bits", 2, 8)):
            value = getattr(self, name)
            _check(low <= value <= high, f"[quant] {name} must be from {low} to {high}, got {value}")
        _check(
            self.gradient_bits == 32 or 4 <= self.gradient_bits <= 16,
            f"[quant] gradient_bits must be from 4 to 16, or 32 for float, got {self.gradient_bits}",
        )
        _check(not self.ternary or self.weight_bits == 2, "[quant] ternary needs weight_bits = 2")
        for where, names in (("layers", self.layers.values()), ("progressive", self.progressive)):
            for name in names:
                _check(
                    name in WEIGHT_FORMATS,
                    f"[quant] {where}: weight format {name!r} is unknown; expected one of {', '.join(WEIGHT_FORMATS)}",
                )
        for name in ("epochs", "distill", "weight_decay"):
            _check(getattr(self, name) >= 0, f"[quant] {name} must not be negative, got {getattr(self, name)}")
        least = len(self.progressive) + 1
        _check(
            self.epochs == 0 or self.epochs >= least,
            f"[quant] epochs must be at least {least}, one for each weight format on the way, got {self.epochs}",
        )
        _check(self.learning_rate > 0, f"[quant] learning_rate must be positive, got {self.learning_rate}")
        _check(
            self.calibration_examples >= 1,
            f"[quant] calibration_examples must be at least 1, got {self.calibration_examples}",
        )

    @property
    def weights(self) -> str:
        """The weight format of layers that are neither first nor last nor named in ``layers``."""
        return "ternary" if self.ternary else str(self.weight_bits)


@dataclass(frozen=True)
class Config:
    """A training run: what is trained, on what, how."""

    name: str
    skeleton: str
    data: DataConfig
    model: ModelConfig = field(default_factory=ModelConfig)
    crop: CropConfig = field(default_factory=CropConfig)
    heatmap: HeatmapConfig = field(default_factory=HeatmapConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)

    def __post_init__(self) -> None:
        multiple = self.model.input_multiple
        _check(
            self.crop.size % multiple == 0,
            f"[crop] size must be a multiple of {multiple} for depth {self.model.depth}, got {self.crop.size}",
        )
        _check(
            self.model.kind != "hourglass" or not self.train.memory_efficient,
            "[train] memory_efficient computes concatenations again, and an hourglass has none; leave it out",
        )

    def to_dict(self) -> dict[str, Any]:
        """Nested tables of plain values, as in the TOML file."""
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # tuples become lists
        return table


def load_config(path: str | Path) -> Config:
    """Read a TOML configuration.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown key, a wrong type or a value out of range.
    """
    table = read_toml(path)
    try:
        return parse_config(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def load_bits(path: str | Path, quant: QuantConfig) -> QuantConfig:
    """Quantization settings with the weight bits of a file: ``weight_bits``, ``ternary``, ``edge_bits``, ``[layers]``.

    `cunet-deploy sensitivity` writes such files; training and export take them.

    Raises:
        ConfigError: the file is missing, is not TOML or holds something else.
    """
    table = read_toml(path)
    allowed = ("weight_bits", "ternary", "edge_bits", "layers")
    for key in table:
        _check(key in allowed, f"{path}: unknown key {key!r}; expected {', '.join(allowed)}")
    defaults = {"weight_bits": 8, "ternary": False, "edge_bits": 8, "layers": {}}
    try:
        return parse(QuantConfig, {**dataclasses.asdict(quant), **defaults, **table}, "bits")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(table: dict[str, Any]) -> Config:
    """A `Config` from nested tables; the inverse of `Config.to_dict`."""
    return parse(Config, table, "")
