from __future__ import annotations

import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.tensorrt.profile import BatchRange, make_profile, parse_batch


def test_a_batch_is_a_range_or_one_size() -> None:
    assert parse_batch("1:4:8") == BatchRange(1, 4, 8)
    assert parse_batch("4") == BatchRange(4, 4, 4)
    assert str(parse_batch("1:4:8")) == "1:4:8"


@pytest.mark.parametrize("text", ["", "1:4", "8:4:1", "0:1:2", "a", "1:2:3:4", "-1", "1:1:5000"])
def test_a_wrong_batch_names_an_example(text: str) -> None:
    with pytest.raises(InputError, match="1:4:8"):
        parse_batch(text)


def test_the_free_size_is_the_batch() -> None:
    assert make_profile({"image": [None, 64, 64, 3]}, BatchRange(1, 4, 8)) == {
        "image": {"min": [1, 64, 64, 3], "opt": [4, 64, 64, 3], "max": [8, 64, 64, 3]}
    }
    assert make_profile({"image": [None, 64, 64, 3]}, None)["image"]["max"] == [16, 64, 64, 3]


def test_a_fixed_batch_needs_no_profile_and_takes_no_other() -> None:
    assert make_profile({"image": [4, 64, 64, 3]}, None) == {}
    assert make_profile({"image": [4, 64, 64, 3]}, BatchRange(4, 4, 4)) == {}
    with pytest.raises(InputError, match="fixed batch of 4"):
        make_profile({"image": [4, 64, 64, 3]}, BatchRange(1, 4, 8))


def test_only_the_batch_may_be_free() -> None:
    with pytest.raises(InputError, match="only the first size"):
        make_profile({"image": [1, None, None, 3]}, None)
