"""Sizes in bytes, as options take them."""

from __future__ import annotations

import pytest

from cunet_deploy.cli._options import parse_bytes
from cunet_deploy.errors import InputError


@pytest.mark.parametrize(
    ("text", "size"),
    [("400000", 400_000), ("400kB", 400_000), ("0.4 MB", 400_000), ("2GB", 2 * 10**9), ("2GiB", 2**31), ("1M", 10**6)],
)
def test_kilobytes_are_thousands_and_kibibytes_1024(text: str, size: int) -> None:
    assert parse_bytes("--cache", text) == size


@pytest.mark.parametrize("text", ["", "GB", "2 XB", "-1", "1e3", "nan"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--cache .*: expected bytes, or a number with"):
        parse_bytes("--cache", text)
