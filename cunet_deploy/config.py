"""Settings: frozen dataclasses that check themselves, read from TOML.

A configuration file has one table for each class below; every key has a default but ``name``, ``skeleton`` and
``[data] train``. An unknown key is an error that names the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from cunet_deploy.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

__all__ = [
    "AugmentConfig",
    "Config",
    "CropConfig",
    "DataConfig",
    "HeatmapConfig",
    "ModelConfig",
    "QuantConfig",
    "TrainConfig",
    "load_config",
    "parse_config",
]

T = TypeVar("T")


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class ModelConfig:
    """The network; defaults are the paper's CU-Net-2.

    Attributes:
        num_unets: N, how many U-Nets are coupled.
        order: K, how many earlier U-Nets each block sees; 0 <= K < N.
        num_losses: L, how many U-Nets are supervised; 0 means all N.
        channels: C, width of the features between blocks.
        growth: g, channels that a dense unit adds.
        bottleneck: b; the 1x1 convolution of a dense unit has b * g channels.
        depth: number of times a U-Net halves the resolution.
        block: "pre" is the paper's BN-ReLU-conv on concatenations; "post" is conv-BN-ReLU, in which every BN folds.
        stem: "conv7" is the paper's 7x7 stride 2 and max pool; "conv3x2" is two 3x3 convolutions of stride 2.
    """

    num_unets: int = 2
    order: int = 1
    num_losses: int = 0
    channels: int = 128
    growth: int = 32
    bottleneck: int = 4
    depth: int = 4
    block: Literal["pre", "post"] = "pre"
    stem: Literal["conv7", "conv3x2"] = "conv7"

    def __post_init__(self) -> None:
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

        Anchor k of L is U-Net N (k + 1) / L, rounded half up (the authors' Python 2 rounds so; Python 3 does not).
        """
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
        memory_efficient: keep less for the backward pass and compute it again: about half the memory, more time.
        coordinate_weight: weight of the landmark error term; see `cunet_deploy.train.loss`.
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
    coordinate_weight: float = 0.0
    seed: int = 0
    validate_every: int = 1

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 2), ("validate_every", 1), ("seed", 0)):
            _check(getattr(self, name) >= least, f"[train] {name} must be at least {least}, got {getattr(self, name)}")
        _check(
            self.coordinate_weight >= 0,
            f"[train] coordinate_weight must not be negative, got {self.coordinate_weight}",
        )
        _check(self.learning_rate > 0, f"[train] learning_rate must be positive, got {self.learning_rate}")
        _check(self.weight_decay >= 0, f"[train] weight_decay must not be negative, got {self.weight_decay}")
        _check(0 <= self.ema_decay < 1, f"[train] ema_decay must be in [0, 1), got {self.ema_decay}")


@dataclass(frozen=True)
class QuantConfig:
    """The quantized phase of training, which starts from the float weights.

    Attributes:
        weight_bits: of every convolution's weights.
        activation_bits: of every convolution's input.
        epochs: passes over the training photos; 0 means none: train float only.
        learning_rate: peak; decays to zero along a cosine.
        calibration_examples: how many training crops set the first scales.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    epochs: int = 0
    learning_rate: float = 1e-4
    calibration_examples: int = 256

    def __post_init__(self) -> None:
        _check(self.weight_bits == 8, f"[quant] weight_bits must be 8, got {self.weight_bits}")
        _check(self.activation_bits == 8, f"[quant] activation_bits must be 8, got {self.activation_bits}")
        _check(self.epochs >= 0, f"[quant] epochs must not be negative, got {self.epochs}")
        _check(self.learning_rate > 0, f"[quant] learning_rate must be positive, got {self.learning_rate}")
        _check(
            self.calibration_examples >= 1,
            f"[quant] calibration_examples must be at least 1, got {self.calibration_examples}",
        )


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

    def to_dict(self) -> dict[str, Any]:
        """Nested tables of plain values, as in the TOML file."""
        return {key: _plain(item) for key, item in dataclasses.asdict(self).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def load_config(path: str | Path) -> Config:
    """Read a TOML configuration.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown key, a wrong type or a value out of range.
    """
    try:
        table = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); expected a TOML configuration") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not TOML ({error}); see models/*/config.toml for examples") from error
    try:
        return parse_config(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(table: dict[str, Any]) -> Config:
    """A `Config` from nested tables; the inverse of `Config.to_dict`."""
    return _parse(Config, table, "")


def _parse(cls: type[T], table: object, where: str) -> T:
    _check(isinstance(table, dict), f"{where or 'the file'} must be a table")
    assert isinstance(table, dict)
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in hints:
            near = difflib.get_close_matches(key, hints, n=1) or sorted(hints)
            raise ConfigError(f"{where or 'top level'}: unknown key {key!r}; did you mean {near[0]!r}?")
    values = {key: _convert(hints[key], item, f"{where} {key}".strip()) for key, item in table.items()}
    required = [
        item.name
        for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    missing = [key for key in required if key not in values]
    _check(not missing, f"{where or 'top level'}: key {', '.join(map(repr, missing))} is missing")
    return cls(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """``value`` as type ``hint``: a nested table, a choice, a list of strings, or a number or string as it is."""
    if dataclasses.is_dataclass(hint):
        return _parse(hint, value, f"[{where}]")  # type: ignore[arg-type]
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        _check(value in choices, f"{where} must be one of {', '.join(map(repr, choices))}, got {value!r}")
        return value
    if typing.get_origin(hint) is tuple:
        is_list = isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value)
        _check(is_list, f"{where} must be a list of strings, got {value!r}")
        return tuple(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _check(type(value) is hint, f"{where} must be of type {hint.__name__}, got {value!r}")
    return value
