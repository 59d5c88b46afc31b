from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.synthesis.options import GROUPS, FaceOptions


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": 20}, "size is 20"),
        ({"yaw": 91.0}, "yaw is 91"),
        ({"yaw": -1.0}, "yaw is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"style": "sepia"}, "choose from colour, grey, infrared"),
        ({"hidden": "nowhere"}, "choose edge or through"),
        ({"distance": (3.0, 1.0)}, "distance is 3:1"),
        ({"elevation": (-90.0, 0.0)}, "elevation is -90:0"),
        ({"focal": 0.0}, "focal is 0.0"),
        ({"noise": 200.0}, "noise is 200.0"),
        ({"without": ("hat",)}, "did you mean 'hats'"),
        ({"without": ("zzz",)}, "choose from children"),
        ({"backgrounds": "/no/such/folder"}, "backgrounds /no/such/folder: is not a folder"),
        ({"environments": "/no/such/folder"}, "environments /no/such/folder: is not a folder"),
    ],
    ids=lambda item: " ".join(item) if isinstance(item, dict) else None,
)
def test_a_value_out_of_range_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        FaceOptions(**given)


def test_every_group_can_be_left_out() -> None:
    options = FaceOptions(without=tuple(GROUPS))
    assert not any(options.has(group) for group in GROUPS)


def test_options_are_stored_as_json(tmp_path: Path) -> None:
    stored = FaceOptions(distance=(0.5, 1.0), without=("hair",), backgrounds=str(tmp_path)).as_json()
    assert stored["distance"] == [0.5, 1.0]
    assert stored["without"] == ["hair"]
    assert stored["backgrounds"] == str(tmp_path)
