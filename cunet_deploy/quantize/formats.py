"""Integer formats of each convolution's weights.

The paper's notation: BW is binary weights, TW ternary ones, each with one scale per filter (BW-alpha in the paper's
tables); QIG adds the bits of inputs, weights and gradients, in that order: BW-QIG(818) is ``activation_bits = 8``,
``weight_bits = 1``, ``gradient_bits = 8``.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass

from cunet_deploy.config import WEIGHT_FORMATS, QuantConfig
from cunet_deploy.errors import ConfigError
from cunet_deploy.model.graph import Graph, Node

__all__ = ["WeightFormat", "check_layers", "format_of", "is_edge", "weight_formats"]

_EDGES = ("stem", "stem.*", "heads.*", "heads_again.*")
"""The first and the last layers, by name: they keep more bits, since everything passes through them."""


@dataclass(frozen=True)
class WeightFormat:
    """The integers that weights are rounded to.

    Attributes:
        name: as in a configuration: "1" (binary), "ternary" or "2" to "8" (uniform with a learned step).
        low: smallest integer.
        high: largest integer.
        bits: that a weight needs in a file: 1, 2, 4 or 8.
    """

    name: str
    low: int
    high: int
    bits: int

    @property
    def learned(self) -> bool:
        """Return whether the scale is learned; binary and ternary scales follow from the weights."""
        return self.name not in ("1", "ternary")


def _make(name: str) -> WeightFormat:
    if name == "1":
        return WeightFormat(name, -1, 1, 1)
    if name == "ternary":
        return WeightFormat(name, -1, 1, 2)
    high = 2 ** (int(name) - 1) - 1
    return WeightFormat(name, -high, high, next(bits for bits in (2, 4, 8) if bits >= int(name)))


_FORMATS = {name: _make(name) for name in WEIGHT_FORMATS}


def format_of(name: str) -> WeightFormat:
    """The format of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in _FORMATS:
        raise ConfigError(f"weight format {name!r} is unknown; expected one of {', '.join(_FORMATS)}")
    return _FORMATS[name]


def is_edge(name: str) -> bool:
    """Return whether a layer is one of the first or last ones."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _EDGES)


def weight_formats(nodes: Iterable[Node], config: QuantConfig, inner: str | None = None) -> dict[str, WeightFormat]:
    """The format of every convolution and affine node by name.

    Args:
        nodes: of the graph.
        config: its ``layers`` decide first, the pattern that was written last; then its ``edge_bits`` for first and
            last layers, then its ``weight_bits``. An affine node has one weight a channel, always of 8 bits.
        inner: in place of ``weight_bits``, while formats are still on their way down.
    """
    chosen = {}
    for node in nodes:
        if node.operation.role == "per_channel":
            chosen[node.output] = format_of("8")
        elif node.operation.role == "filters":
            owner = node.shares or node.output
            named = [name for pattern, name in config.layers.items() if fnmatch.fnmatchcase(owner, pattern)]
            default = str(config.edge_bits) if is_edge(owner) else inner or config.weights
            chosen[node.output] = format_of(named[-1] if named else default)
    return chosen


def check_layers(graph: Graph, config: QuantConfig) -> None:
    """Check that each pattern of ``layers`` names a layer that has weights of its own.

    For the whole network only: the part of it that is exported may lack layers that were rightly named.

    Raises:
        ConfigError: a pattern matches no layer.
    """
    owners = [node.output for node in graph.owners]
    for pattern in config.layers:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in owners):
            raise ConfigError(
                f"[quant.layers] {pattern!r} matches no convolution with weights of its own; cunet-deploy inspect "
                f"--layers lists the names, such as {owners[min(2, len(owners) - 1)]!r}"
            )
