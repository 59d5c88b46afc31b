"""Lists of sources: the same whoever reads them, and one line about what is wrong with one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cunet_deploy.errors import InputError
from cunet_deploy.media import find_items
from cunet_deploy.media.source_lists import LIST_SUFFIXES, parse_source_list


def parquet(path: Path, columns: dict[str, Any]) -> bytes:
    pa = pytest.importorskip("pyarrow", reason="the extra [ray] is not installed: pyarrow is missing")
    pytest.importorskip("pyarrow.parquet").write_table(pa.table(columns), path)
    return path.read_bytes()


def content(suffix: str, folder: Path, sources: list[str]) -> bytes:
    if suffix == ".parquet":
        return parquet(folder / "written.parquet", {"camera": [1] * (len(sources) + 2), "source": [*sources, None, ""]})
    if suffix == ".csv":
        return ("camera,source\n" + "".join(f"1,{source}\n" for source in sources) + "2,\n3\n").encode()
    return ("\ufeff# clips\n  # more\n" + "".join(f" {source}\r\n" for source in sources) + "\n").encode()


@pytest.mark.parametrize("suffix", LIST_SUFFIXES)
def test_paths_are_relative_to_the_list(tmp_path: Path, suffix: str) -> None:
    data = content(suffix, tmp_path, ["a.mp4", "../b/*.png", "/c.mp4", "rtsp://host/d", "0"])
    assert parse_source_list(f"lists/all{suffix}", data) == [
        *("lists/a.mp4", "lists/../b/*.png", "/c.mp4", "rtsp://host/d", "0"),
    ]
    assert parse_source_list(f"s3://bucket/lists/all{suffix}", data)[:3] == [
        *("s3://bucket/lists/a.mp4", "s3://bucket/lists/../b/*.png", "/c.mp4"),
    ]


def test_names_may_be_any_bytes_and_hold_every_separator_but_line_ends() -> None:
    assert parse_source_list("x/all.txt", b"a\xff\x0cb\xe2\x80\xa8.png\n") == ["x/a\udcff\x0cb\u2028.png"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("all.txt", "ä b.mp4\r\nc;d.mp4\r\n"),
        ("all.csv", "source\nä b.mp4\nc;d.mp4\n"),
        ("all.csv", 'camera; source ;time\n1;ä b.mp4;0,5\n2;"c;d.mp4";1\n'),
        ("all.csv", "camera\tsource\n1\tä b.mp4\n2\tc;d.mp4\n"),
    ],
)
def test_lists_that_excel_and_windows_write_are_read(name: str, text: str, encoding: str) -> None:
    assert parse_source_list(name, text.encode(encoding)) == ["ä b.mp4", "c;d.mp4"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("all.txt", b"\xff\xfea", "all.txt: is not a text file; expected a list of sources"),
        ("all.txt", b"# nothing\n\n", "all.txt: lists no source; write one a line"),
        ("all.csv", b"source\n", "all.csv: lists no source"),
        ("all.csv", b"file\na.mp4\n", "all.csv: has no column 'source'; its first line is the header"),
        ("all.csv", b'source\n"' + b"a" * 200_000, "all.csv: is not a CSV file"),
        ("all.txt", b"a.mp4\nall.txt\n", "all.txt: names another list, all.txt"),
        ("all.lst", b"sub/other.CSV\n", "names another list"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(name: str, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_source_list(name, data)


def test_what_is_wrong_with_a_parquet_file_is_said(tmp_path: Path) -> None:
    whole = parquet(tmp_path / "good.parquet", {"source": ["a.mp4"]})
    for data, message in (
        (whole[:-20], "is damaged or not a Parquet file"),
        (b"", "is damaged or not a Parquet file"),
        (parquet(tmp_path / "other.parquet", {"file": ["a.mp4"]}), "has no column 'source'; it has file"),
        (parquet(tmp_path / "numbers.parquet", {"source": [1, 2]}), "does not hold text"),
        (parquet(tmp_path / "nulls.parquet", {"source": [None, None]}), "lists no source"),
    ):
        with pytest.raises(InputError, match=message):
            parse_source_list("all.parquet", data)


def test_infer_and_bulk_read_a_list_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec", reason="the extra [ray] is not installed: fsspec is missing")
    from cunet_deploy.bulk.items import list_items

    for name in ("lists/clips/a.mp4", "lists/b.mp4", "elsewhere/c.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    (tmp_path / "lists" / "all.csv").write_text("source\nclips/a.mp4\nb.mp4\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = ["../lists/clips/a.mp4", "../lists/b.mp4"]
    assert [item.sources[0] for item in list_items(["../lists/all.csv"])] == expected
    assert [item.text for item in find_items(["../lists/all.csv"]) or []] == expected
    (tmp_path / "lists" / "all.txt").write_text("all.txt\n")
    for read in (find_items, lambda sources: list(list_items(sources))):
        with pytest.raises(InputError, match="names another list"):
            read(["../lists/all.txt"])
