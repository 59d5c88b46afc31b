"""Landmark sets of the user's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from cunet_deploy.config import load_config, parse_config
from cunet_deploy.errors import ConfigError
from cunet_deploy.skeletons.files import read_skeleton

MOUSE = """
name = "mouse"
landmarks = ["nose", "left_ear", "right_ear", "tail"]
flip_pairs = [["left_ear", "right_ear"]]
edges = [["nose", "left_ear"], ["nose", "right_ear"], ["nose", "tail"]]
[normalizers]
body = ["nose", "tail"]
head = [["left_ear", "right_ear"], ["nose"]]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "mouse.toml"
    path.write_text(text)
    return path


def test_names_become_indices(tmp_path: Path) -> None:
    skeleton = read_skeleton(write(tmp_path, MOUSE))
    assert (skeleton.name, len(skeleton)) == ("mouse", 4)
    assert skeleton.flip_pairs == ((1, 2),)
    assert skeleton.edges == ((0, 1), (0, 2), (0, 3))
    assert skeleton.normalizers == {"body": ((0,), (3,)), "head": ((1, 2), (0,))}


def test_a_configuration_names_the_file_relative_to_itself(tmp_path: Path) -> None:
    write(tmp_path, MOUSE)
    config_file = tmp_path / "config.toml"
    config_file.write_text('name = "m"\nskeleton = "mouse.toml"\n[data]\ntrain = ["cage"]\nlayout = "points"\n')
    config = load_config(config_file)
    assert config.skeleton == "mouse"
    assert config.landmarks.landmarks == ("nose", "left_ear", "right_ear", "tail")
    assert parse_config(config.to_dict()) == config  # what a checkpoint holds needs no file


def test_a_known_skeleton_needs_no_file() -> None:
    config = parse_config({"name": "x", "skeleton": "lsp14", "data": {"train": ["a"]}})
    assert config.landmarks.name == "lsp14"
    assert "own_skeleton" not in config.to_dict()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "mouse"', "", "key 'name' is missing"),
        ('name = "mouse"', 'name = ""', "name must be a name"),
        ('"nose", "left_ear", "right', '"nose", "nose", "right', "stands twice"),
        ("edges =", "egdes =", "unknown key 'egdes'"),
        ('[["left_ear", "right_ear"]]', '[["left_ear", "rigth_ear"]]', "'rigth_ear' is no landmark; did you mean"),
        ('[["left_ear", "right_ear"]]', '["left_ear"]', r"flip_pairs\[0\] must be a pair of names, got 'left_ear'"),
        (
            '["nose", "tail"]\nhead',
            '["nose"]\nhead',
            "must be a table, each value two names or two lists of names",
        ),
        ("[normalizers]", "sigmas = [0.1]\n[normalizers]", "sigmas must be 4 positive numbers"),
        ("landmarks = [", "landmarks = [3, ", r"landmarks\[0\] must be a name, got 3"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MOUSE
    with pytest.raises(ConfigError, match=message) as caught:
        read_skeleton(write(tmp_path, MOUSE.replace(old, new, 1)))
    assert "mouse.toml" in str(caught.value)


def test_an_edge_may_be_a_line_through_several_landmarks(tmp_path: Path) -> None:
    chain = MOUSE.replace('[["nose", "left_ear"], ["nose", "right_ear"],', '[["left_ear", "nose", "right_ear"],')
    assert read_skeleton(write(tmp_path, chain)).edges == ((1, 0), (0, 2), (0, 3))


def test_the_name_of_a_known_set_is_taken(tmp_path: Path) -> None:
    write(tmp_path, MOUSE.replace('name = "mouse"', 'name = "lsp14"'))
    config = tmp_path / "config.toml"
    config.write_text('name = "m"\nskeleton = "mouse.toml"\n[data]\ntrain = ["cage"]\n')
    with pytest.raises(ConfigError, match=r"mouse\.toml: the name 'lsp14' is taken"):
        load_config(config)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('name = "m"\nskeleton = "rat.toml"\n[data]\ntrain = ["cage"]\n')
    with pytest.raises(ConfigError, match=r"rat\.toml: cannot be read"):
        load_config(config)
