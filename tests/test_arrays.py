"""Archives of arrays that may be damaged."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from cunet_deploy import _arrays
from cunet_deploy._arrays import read_arrays


def write(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def npy(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, value)
    return buffer.getvalue()


def test_arrays_come_by_their_names(tmp_path: Path) -> None:
    found = read_arrays(write(tmp_path / "a.npz", one=npy(np.arange(3)), two=npy(np.zeros((2, 2), np.uint8))))
    assert found["one"].tolist() == [0, 1, 2]
    assert found["two"].dtype == np.uint8


@pytest.mark.parametrize(
    "content",
    [
        b"\x93NUMPY\x01\x00\x0a\x00{'descr': ",
        npy(np.arange(3)).replace(b"(3,)", b"((3,"),
        npy(np.arange(3)).replace(b"(3,), ", b"(3**9,"),
        npy(np.arange(3))[:-1],
        pickle.dumps({"a": 1}),
        b"",
    ],
)
def test_whatever_is_wrong_with_an_array_is_one_kind_of_error(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\A.+\Z"):
        read_arrays(write(tmp_path / "a.npz", one=content))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive"])
def test_what_is_no_archive_is_that_kind_of_error_too(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ValueError, match=r"."):
        read_arrays(tmp_path / "a.npz")


def test_a_small_file_of_large_arrays_is_refused_before_they_are_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_arrays, "MOST_BYTES", 1000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.npy", npy(np.zeros(10_000)))
    with pytest.raises(ValueError, match="more than 1000"):
        read_arrays(tmp_path / "a.npz")
