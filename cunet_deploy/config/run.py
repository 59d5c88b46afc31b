"""A training run as a whole, read from TOML.

A configuration file has one table for each class of this package; every key has a default but ``name``, ``skeleton``
and ``[data] train``. An unknown key is an error that names the table where it belongs, or the nearest valid one.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cunet_deploy._decode import check as _check
from cunet_deploy._decode import convert, read_toml
from cunet_deploy.config.sections import AugmentConfig, BoxConfig, DataConfig, HeatmapConfig, ModelConfig
from cunet_deploy.config.training import QuantConfig, TrainConfig
from cunet_deploy.errors import ConfigError
from cunet_deploy.geometry import CropRule
from cunet_deploy.skeletons import BOX, SKELETONS, Skeleton, get_skeleton
from cunet_deploy.skeletons.files import read_skeleton

__all__ = ["Config", "differences", "load_bits", "load_config", "own_skeleton_file", "parse_config"]


@dataclass(frozen=True)
class Config:
    """A training run: what is trained, on what, how.

    ``skeleton`` is the name of a known one, or in a file the path of a TOML file, relative to it, that describes the
    user's own (see `cunet_deploy.skeletons.files`); that is then in ``own_skeleton``. ``detector`` names the model that
    finds the objects of this one; empty: what is usual for the skeleton.
    """

    name: str
    skeleton: str
    data: DataConfig
    detector: str = ""
    model: ModelConfig = field(default_factory=ModelConfig)
    crop: CropRule = field(default_factory=CropRule)
    heatmap: HeatmapConfig = field(default_factory=HeatmapConfig)
    boxes: BoxConfig = field(default_factory=BoxConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    quant: QuantConfig = field(default_factory=QuantConfig)
    own_skeleton: Skeleton | None = None

    def __post_init__(self) -> None:
        multiple = self.model.input_multiple
        _check(
            self.crop.size % multiple == 0,
            f"[crop] size must be a multiple of {multiple} for depth {self.model.depth}, got {self.crop.size}",
        )
        _check(
            self.model.rules.concatenates or not self.train.memory_efficient,
            f"[train] memory_efficient computes concatenations again, and a {self.model.kind!r} has none; leave it out",
        )

    @property
    def landmarks(self) -> Skeleton:
        """Landmarks that the network finds.

        Raises:
            InputError: no skeleton has that name.
        """
        return self.own_skeleton or get_skeleton(self.skeleton)

    @property
    def finds_boxes(self) -> bool:
        """Return whether the network finds objects in whole images, and not landmarks in crops."""
        return self.skeleton == BOX.name

    def to_dict(self) -> dict[str, Any]:
        """Nested tables of plain values, as in the TOML file."""
        table: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # tuples become lists
        del table["own_skeleton"]
        return table if self.own_skeleton is None else {**table, "own_skeleton": self.own_skeleton.to_dict()}


def load_config(path: str | Path) -> Config:
    """Read a TOML configuration.

    Raises:
        ConfigError: the file is missing, is not TOML, or has an unknown key, a wrong type or a value out of range.
    """
    table = read_toml(path)
    own = own_skeleton_file(path, table)
    if own is not None:
        skeleton = read_skeleton(own)
        _check(skeleton.name not in SKELETONS, f"{own}: the name {skeleton.name!r} is taken; choose another one")
        table = {**table, "skeleton": skeleton.name, "own_skeleton": skeleton.to_dict()}
    try:
        return parse_config(table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def own_skeleton_file(path: str | Path, table: dict[str, Any] | None = None) -> Path | None:
    """The file of the user's own landmark set that a configuration names; ``None`` where it has a known one.

    Raises:
        ConfigError: the configuration cannot be read.
    """
    name = (read_toml(path) if table is None else table).get("skeleton")
    return Path(path).parent / name if isinstance(name, str) and name.endswith(".toml") else None


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
        tables = json.loads(json.dumps(dataclasses.asdict(quant)))  # tuples become lists
        return convert({**tables, **defaults, **table}, QuantConfig, "bits:")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_config(table: dict[str, Any]) -> Config:
    """A `Config` from nested tables; the inverse of `Config.to_dict`."""
    return convert(table, Config)


def differences(given: object, wanted: object) -> str:
    """Describe in what a setting differs from a wanted one; of tables, the keys that do: ``depth 4 instead of 3``."""
    if not dataclasses.is_dataclass(given) or type(given) is not type(wanted):
        return f"{given!r} instead of {wanted!r}"
    pairs = {item.name: (getattr(given, item.name), getattr(wanted, item.name)) for item in dataclasses.fields(given)}
    return ", ".join(f"{name} {mine!r} instead of {other!r}" for name, (mine, other) in pairs.items() if mine != other)
