from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cunet_deploy.config import Config, ModelConfig, QuantConfig, load_bits, load_config, parse_config
from cunet_deploy.errors import ConfigError

SMALLEST: dict[str, Any] = {"name": "tiny", "skeleton": "ibug68", "data": {"train": ["helen/train"]}}


def test_name_skeleton_and_training_data_are_enough() -> None:
    config = parse_config(SMALLEST)
    assert (config.name, config.skeleton, config.data.train) == ("tiny", "ibug68", ("helen/train",))
    assert config.model == ModelConfig()


def test_a_configuration_survives_the_way_through_plain_tables() -> None:
    config = parse_config(
        {
            **SMALLEST,
            "model": {"num_unets": 3, "order": 2, "num_losses": 2, "block": "post", "stem": "conv3x2", "depth": 3},
            "crop": {"size": 128, "padding": 1.6},
            "augment": {"flip": 0.25},
            "quant": {
                "epochs": 4,
                "weight_bits": 1,
                "progressive": ["8", "ternary"],
                "layers": {"down.*": "4", "down.0.*": "8"},
                "gradient_bits": 8,
            },
        }
    )
    assert parse_config(config.to_dict()) == config


def test_a_configuration_as_tables_holds_only_what_toml_and_json_can() -> None:
    def plain(value: object) -> bool:
        if isinstance(value, dict):
            return all(isinstance(key, str) and plain(item) for key, item in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return isinstance(value, (str, int, float))

    assert plain(parse_config(SMALLEST).to_dict())


def test_a_whole_number_is_accepted_where_a_fraction_is_expected() -> None:
    config = parse_config({**SMALLEST, "augment": {"rotation": 15}})
    assert config.augment.rotation == 15
    assert isinstance(config.augment.rotation, float)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"modle": {}}, r"unknown key 'modle'; did you mean 'model'"),
        ({"model": {"growht": 8}}, r"\[model\]: unknown key 'growht'; did you mean 'growth'"),
        ({"train": {"epoch": 8}}, r"\[train\]: unknown key 'epoch'; did you mean 'epochs'"),
        ({"model": {"size": 192}}, r"\[model\]: unknown key 'size'; it belongs in \[crop\]$"),
        ({"size": 192}, r"top level: unknown key 'size'; it belongs in \[crop\]$"),
        ({"model": {"epochs": 9}}, r"\[model\]: unknown key 'epochs'; it belongs in \[train\] or in \[quant\]$"),
        (
            {"data": {"train": ["a"], "detector": "x"}},
            r"'detector'; it belongs at the top level, before all tables",
        ),
        ({"model": {"crop": {"size": 192}}}, r"'crop'; it belongs in a table of its own, \[crop\]$"),
        ({"data": {"sources": [{"path": "a", "size": 1}]}}, r"\[data\] sources\[0\]: .*; it belongs in \[crop\]$"),
        ({"model": {"weight": 1}}, r"'weight'; it belongs in \[data\] sources$"),
        ({"model": {"xyz": 1}}, r"'xyz'; expected kind, num_unets, order, "),
        ({"model": {"growth": "8"}}, r"\[model\] growth must be of type int, got '8'"),
        ({"model": {"growth": 8.0}}, r"growth must be of type int, got 8.0"),
        ({"model": {"growth": True}}, r"growth must be of type int, got True"),
        ({"augment": {"flip": True}}, r"flip must be of type float, got True"),
        ({"model": 3}, r"\[model\] must be a table"),
        ({"data": {"train": "helen"}}, r"\[data\] train must be a list of strings, got 'helen'"),
        ({"data": {"train": [1]}}, r"train\[0\] must be of type str, got 1"),
        ({"data": {"train": []}}, r"train must name at least one folder"),
        ({"model": {"block": "mid"}}, r"block must be one of 'pre', 'post', got 'mid'"),
        ({"model": {"num_unets": 0}}, r"num_unets must be from 1 to 64, got 0"),
        ({"model": {"num_unets": 2, "order": 2}}, r"order must be from 0 to num_unets - 1 = 1, got 2"),
        ({"model": {"num_losses": 3}}, r"num_losses must be from 0 \(all\) to num_unets = 2, got 3"),
        ({"model": {"channels": 33}}, r"channels of a 'cunet' must be a multiple of 2, got 33"),
        ({"crop": {"size": 100}}, r"size must be a multiple of 64 for depth 4, got 100"),
        ({"crop": {"padding": 0}}, r"padding must be positive"),
        ({"heatmap": {"sigma": 0}}, r"sigma must be positive"),
        ({"heatmap": {"radius": 9}}, r"radius must be from 1 to 8, got 9"),
        ({"augment": {"flip": 1.5}}, r"flip must be from 0 to 1, got 1.5"),
        ({"augment": {"rotation": -1}}, r"rotation must be from 0 to 180, got -1"),
        ({"train": {"learning_rate": 0}}, r"learning_rate must be positive"),
        ({"train": {"ema_decay": 1}}, r"ema_decay must be in \[0, 1\)"),
        ({"quant": {"weight_bits": 9}}, r"weight_bits must be from 1 to 8"),
        ({"quant": {"weight_bits": 0}}, r"weight_bits must be from 1 to 8, got 0"),
        ({"quant": {"activation_bits": 1}}, r"activation_bits must be from 2 to 8, got 1"),
        ({"quant": {"edge_bits": 1}}, r"edge_bits must be from 2 to 8, got 1"),
        ({"quant": {"gradient_bits": 3}}, r"gradient_bits must be from 4 to 16, or 32 for float, got 3"),
        ({"quant": {"gradient_bits": 17}}, r"gradient_bits must be from 4 to 16, or 32 for float, got 17"),
        ({"quant": {"ternary": True}}, r"ternary needs weight_bits = 2"),
        ({"quant": {"ternary": 1}}, r"ternary must be of type bool, got 1"),
        ({"quant": {"layers": {"down.*": "9"}}}, r"layers: weight format '9' is unknown; expected one of 1, ternary"),
        ({"quant": {"layers": {"down.*": 4}}}, r"layers must be a table of strings, such as \"down.0.\*\" = \"4\""),
        ({"quant": {"layers": ["down.*"]}}, r"layers must be a table of strings"),
        ({"quant": {"progressive": ["8", "five"]}}, r"progressive: weight format 'five' is unknown"),
        ({"quant": {"progressive": "8"}}, r"progressive must be a list of strings, got '8'"),
        ({"quant": {"progressive": ["8", "4"], "epochs": 2}}, r"epochs must be at least 3, one for each weight format"),
        ({"quant": {"distill": -1}}, r"\[quant\] distill must be at least 0, got -1"),
        ({"quant": {"weight_decay": -1}}, r"\[quant\] weight_decay must be at least 0"),
        ({"quant": {"calibration_examples": 0}}, r"calibration_examples must be from 1 to"),
        ({"train": {"distill": -1}}, r"\[train\] distill must be at least 0, got -1"),
        ({"train": {"saved_bits": 4}}, r"saved_bits must be one of 8, 32, got 4"),
        ({"train": {"coordinate_weight": -1}}, r"coordinate_weight must be at least 0"),
        ({"model": {"kind": "vgg"}}, r"kind must be one of 'cunet', 'hourglass', 'dense_unet', got 'vgg'"),
        ({"model": {"kind": "hourglass"}}, r"kind 'hourglass' comes with order = 0 only, got 1"),
        ({"model": {"passes": 3}}, r"passes must be one of 1, 2, got 3"),
        ({"train": {"learning_rate": float("inf")}}, r"\[train\] learning_rate must be a finite number, got inf"),
        ({"crop": {"size": 10**400}}, r"\[crop\] size must be from 32 to 4096"),
        ({"model": {"depth": 2**40}}, r"\[model\] depth must be from 1 to 8"),
        (
            {"model": {"kind": "hourglass", "order": 0}, "train": {"memory_efficient": True}},
            r"memory_efficient computes concatenations again, and a 'hourglass' has none",
        ),
    ],
)
def test_a_bad_value_says_what_was_expected_and_what_came(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config({**SMALLEST, **table})


def test_a_key_that_stands_below_the_first_table_is_not_missing_but_misplaced() -> None:
    with pytest.raises(ConfigError, match=r"\[data\]: unknown key 'skeleton'; it belongs at the top level"):
        parse_config({"name": "tiny", "data": {"train": ["helen/train"], "skeleton": "ibug68"}})


@pytest.mark.parametrize("key", ["name", "skeleton", "data"])
def test_a_missing_key_is_named(key: str) -> None:
    table = {name: value for name, value in SMALLEST.items() if name != key}
    with pytest.raises(ConfigError, match=f"key '{key}' is missing"):
        parse_config(table)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_gives_the_same_as_its_tables(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text('name = "tiny"\nskeleton = "ibug68"\n[data]\ntrain = ["helen/train"]\n', encoding)
    config: Config = load_config(path)
    assert config == parse_config(SMALLEST)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name = ", "is not TOML"),
        (b"\x80\x81\x82", "is not a text file; expected a TOML file"),
        (b"", "'name', 'skeleton', 'data' is missing"),
        (b'nmae = "tiny"', "did you mean 'name'"),
    ],
    ids=["broken off", "binary", "empty", "misspelt"],
)
def test_a_bad_file_is_named_with_what_is_wrong(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(ConfigError, match="cannot be read") as caught:
            load_config(path)
        assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("unets", "losses", "anchors"),
    [(1, 0, (0,)), (2, 0, (0, 1)), (2, 1, (1,)), (4, 2, (1, 3)), (8, 3, (2, 4, 7)), (3, 2, (1, 2))],
)
def test_supervised_unets_are_spread_evenly_and_end_with_the_last(
    unets: int, losses: int, anchors: tuple[int, ...]
) -> None:
    assert ModelConfig(num_unets=unets, order=0, num_losses=losses).anchors == anchors


def test_the_order_of_patterns_is_kept_since_the_last_one_decides() -> None:
    layers = {"down.*": "4", "down.0.*": "8", "*": "2"}
    config = parse_config({**SMALLEST, "quant": {"layers": layers}})
    assert (
        list(config.to_dict()["quant"]["layers"]) == list(parse_config(config.to_dict()).quant.layers) == list(layers)
    )


def test_a_file_of_bits_replaces_all_bits_of_weights_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "bits.toml"
    path.write_text('weight_bits = 4\n[layers]\n"down.0.*" = "ternary"\n')
    before = QuantConfig(
        weight_bits=2, ternary=True, edge_bits=4, layers={"up.*": "1"}, activation_bits=6, epochs=7, progressive=("8",)
    )
    found = load_bits(path, before)
    assert (found.weights, found.edge_bits, found.layers) == ("4", 8, {"down.0.*": "ternary"})
    assert (found.activation_bits, found.epochs, found.progressive) == (6, 7, ("8",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("epochs = 3", "unknown key 'epochs'; expected weight_bits, ternary, edge_bits, layers"),
        ("weight_bits = 9", "weight_bits must be from 1 to 8, got 9"),
        ('weight_bits = "4"', "weight_bits must be of type int, got '4'"),
        ('[layers]\n"down.*" = "9"', "weight format '9' is unknown"),
        ("ternary = true", "ternary needs weight_bits = 2"),
        ("weight_bits", "is not TOML"),
    ],
)
def test_a_bad_file_of_bits_is_named_with_what_is_wrong(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bits.toml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_bits(path, QuantConfig())
    assert str(caught.value).startswith(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        load_bits(tmp_path / "none.toml", QuantConfig())
