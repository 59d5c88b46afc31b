"""Bits by layer: by name, for every convolution of the network."""

from __future__ import annotations

from typing import Any

import pytest

from cunet_deploy.config import WEIGHT_FORMATS, ModelConfig, QuantConfig
from cunet_deploy.errors import ConfigError
from cunet_deploy.model.graph import Graph
from cunet_deploy.model.networks import build_graph
from cunet_deploy.quantize.formats import check_layers, format_of, weight_formats

UNETS, DEPTH = 3, 2


def graph_of(**changes: Any) -> Graph:
    table = {"num_unets": UNETS, "channels": 8, "growth": 4, "depth": DEPTH, **changes}
    return build_graph(ModelConfig(**table), 5, all_heads=True)


def names_of(graph: Graph) -> list[str]:
    return [node.output for node in graph.nodes if node.op == "conv"]


def quant(name: str, **changes: Any) -> QuantConfig:
    if name == "ternary":
        return QuantConfig(weight_bits=2, ternary=True, **changes)
    return QuantConfig(weight_bits=int(name), **changes)


@pytest.mark.parametrize(
    ("name", "low", "high", "bits"),
    [("1", -1, 1, 1), ("ternary", -1, 1, 2), ("2", -1, 1, 2), ("3", -3, 3, 4), ("4", -7, 7, 4), ("8", -127, 127, 8)],
)
def test_a_format_has_a_symmetric_range_and_a_place_in_a_byte(name: str, low: int, high: int, bits: int) -> None:
    found = format_of(name)
    assert (found.low, found.high, found.bits, found.learned) == (low, high, bits, name not in ("1", "ternary"))


def test_every_format_of_a_configuration_is_known_and_no_other() -> None:
    assert [format_of(name).name for name in WEIGHT_FORMATS] == list(WEIGHT_FORMATS)
    with pytest.raises(ConfigError, match=r"'9' is unknown; expected one of 1, ternary, 2"):
        format_of("9")


@pytest.mark.parametrize("name", ["1", "ternary", "3", "8"])
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("block", ["pre", "post"])
def test_every_convolution_inside_has_the_bits_and_the_first_and_last_have_their_own(
    block: str, order: int, passes: int, name: str
) -> None:
    graph = graph_of(block=block, order=order, passes=passes)
    formats = weight_formats(graph.nodes, quant(name, edge_bits=6))
    convolutions = [node for node in graph.nodes if node.op == "conv"]
    inside = [node for node in convolutions if formats[node.output].name == name]
    # Of each U-Net: a dense unit of two and an adapter in every block, a second adapter in those on the way down.
    blocks = 2 * DEPTH + 1
    assert len(inside) == passes * (UNETS * (3 * blocks + DEPTH) + UNETS - 1) + (passes - 1)
    assert {node.kernel for node in inside} == {1, 3}
    kinds = {
        kind
        for node in inside
        for kind in ("squeeze", "grow", "ahead", "skip", "inter", "merge")
        if kind in node.output
    }
    assert kinds == {"squeeze", "grow", "ahead", "skip", "inter"} | ({"merge"} if passes == 2 else set())
    edges = {node.output for node in convolutions if formats[node.output].name == "6"}
    heads = {f"heads.{i}" for i in range(UNETS)} | (
        {f"heads_again.{i}" for i in range(UNETS)} if passes == 2 else set()
    )
    assert edges == {"stem.conv"} | heads
    assert len(edges) + len(inside) == len(convolutions)
    assert {formats[node.output].name for node in graph.nodes if node.op == "affine"} <= {"8"}


@pytest.mark.parametrize("kind", ["hourglass", "dense_unet"])
def test_the_baselines_are_covered_the_same_way(kind: str) -> None:
    graph = graph_of(kind=kind, order=0, block="pre")
    formats = weight_formats(graph.nodes, quant("1"))
    for name in names_of(graph):
        assert formats[name].name == ("8" if name.split(".")[0] in ("stem", "heads") else "1")


def test_the_first_and_the_last_are_found_by_name_wherever_they_stand() -> None:
    graph = graph_of(block="pre")
    backwards = Graph(tuple(reversed(graph.nodes)), graph.outputs)
    assert weight_formats(backwards.nodes, quant("1")) == weight_formats(graph.nodes, quant("1"))


def test_the_pattern_that_was_written_last_decides_before_edges_and_defaults() -> None:
    layers = {"down.*": "4", "down.0.*": "2", "stem.*": "5", "heads.2": "ternary"}
    formats = weight_formats(graph_of().nodes, quant("1", layers=layers))
    assert formats["down.1.units.0.grow"].name == "4"
    assert formats["down.0.units.0.grow"].name == "2"
    assert formats["stem.conv"].name == "5"
    assert (formats["heads.1"].name, formats["heads.2"].name) == ("8", "ternary")
    assert formats["up.0.units.0.grow"].name == "1"


def test_formats_on_their_way_down_change_neither_edges_nor_named_layers() -> None:
    formats = weight_formats(graph_of().nodes, quant("1", layers={"neck.*": "4"}), inner="8")
    assert formats["down.0.units.0.grow"].name == "8"
    assert formats["neck.ahead.0"].name == "4"


def test_both_passes_use_the_integers_of_one_format() -> None:
    graph = graph_of(passes=2)
    formats = weight_formats(graph.nodes, quant("1", layers={"down.*": "4", "*grow": "2"}))
    shared = [node for node in graph.nodes if node.shares]
    assert {formats[node.output].name for node in shared} == {"1", "2", "4"}
    assert all(formats[node.output] == formats[node.shares] for node in shared)


@pytest.mark.parametrize("pattern", ["down.9.*", "Down.*", "again.*", "down.0.pool.0", "image"])
def test_a_pattern_that_names_no_weights_is_refused_with_a_name_that_exists(pattern: str) -> None:
    graph = graph_of(passes=2)
    with pytest.raises(ConfigError, match=r"matches no convolution.*such as 'down\.0\.units\.0\.grow'") as caught:
        check_layers(graph, QuantConfig(layers={"neck.*": "4", pattern: "4"}))
    assert repr(pattern) in str(caught.value)
    check_layers(graph, QuantConfig(layers={"neck.*": "4"}))
