"""Items of a bulk run, and the files that it writes."""

from __future__ import annotations

import json
import pickle
import socket
from pathlib import Path

import pytest

from cunet_deploy.errors import CunetError, InputError

pytest.importorskip("fsspec", reason="the extra [ray] is not installed: fsspec is missing")
pa = pytest.importorskip("pyarrow", reason="the extra [ray] is not installed: pyarrow is missing")

from cunet_deploy.bulk.items import Item, Part, list_items  # noqa: E402
from cunet_deploy.bulk.results import Output  # noqa: E402


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b/c.MKV", "b/d.jpg", "b/e.png", "b/notes.md", "b/.hidden.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"-")
    return tmp_path


def names(items: list[Item], root: Path) -> list[tuple[str, ...]]:
    return [tuple(str(Path(source).relative_to(root)) for source in item.sources) for item in items]


def test_a_folder_is_searched_and_photos_are_taken_in_blocks(folder: Path) -> None:
    assert names(list(list_items([str(folder)])), folder) == [("a.mp4",), ("b/c.MKV",), ("b/d.jpg", "b/e.png")]
    assert names(list(list_items([str(folder)], photos_per_item=1)), folder)[2:] == [("b/d.jpg",), ("b/e.png",)]


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".parquet"])
def test_manifests_list_sources(folder: Path, suffix: str) -> None:
    manifest, listed = folder / f"list{suffix}", [str(folder / "a.mp4"), f"{folder}/b/*.jpg"]
    if suffix == ".txt":
        manifest.write_text("# clips\n" + "\n".join(listed) + "\n\n")
    elif suffix == ".csv":
        manifest.write_text("camera,source\n" + "".join(f"1,{source}\n" for source in listed))
    else:
        pa.parquet.write_table(pa.table({"source": listed}), manifest)
    assert names(list(list_items([str(manifest)])), folder) == [("a.mp4",), ("b/d.jpg",)]


def test_what_is_named_twice_comes_once(folder: Path) -> None:
    items = list(list_items([str(folder), f"{folder}/b/*.jpg", str(folder / "a.mp4")]))
    assert names(items, folder) == [("a.mp4",), ("b/c.MKV",), ("b/d.jpg", "b/e.png")]


@pytest.mark.parametrize("store", ["disk", "memory"])
def test_photos_that_are_new_form_blocks_of_their_own(folder: Path, tmp_path: Path, store: str) -> None:
    output = Output(str(tmp_path / "out") if store == "disk" else "memory://blocks")
    assert output.done_blocks({"x"}) == {}
    (block,) = list(list_items([f"{folder}/b/*"]))[1:]
    output.record_block(block)
    for name in ("b/a.jpg", "b/dd.jpg", "b/f.jpg"):
        (folder / name).write_bytes(b"-")
    (folder / "b" / "e.png").unlink()
    assert output.done_blocks(set()) == {}  # it was begun, not finished
    items = list(list_items([f"{folder}/b/*.jpg"], photos_per_item=2, blocks=output.done_blocks({block.key})))
    assert names(items, folder) == [("b/d.jpg", "b/e.png"), ("b/a.jpg", "b/dd.jpg"), ("b/f.jpg",)]
    assert items[0].key == block.key
    assert list(list_items([str(folder / "b" / "d.jpg")], blocks=output.done_blocks({block.key}))) == [block]
    output.remove("")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing.mp4", "does not exist"),
        ("b/notes.md", "is not a photo or video of a type that is read"),
        ("b/*.mp4", "no photo or video is there"),
        ("nowhere://x", "give a path, or a URL"),
    ],
)
def test_sources_that_are_none_are_refused(folder: Path, source: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(list_items([source if "://" in source else str(folder / source)]))


def test_sources_that_are_none_cost_themselves_only(folder: Path) -> None:
    listed = ["a.mp4", "gone.mp4", "b/notes.md", "b/*.avi", "nowhere://x", "b/d.jpg"]
    (folder / "list.txt").write_text("\n".join(listed))
    refused: dict[str, CunetError] = {}
    items = list(list_items([str(folder / "list.txt"), str(folder / "gone")], refused=refused))
    assert names(items, folder) == [("a.mp4",), ("b/d.jpg",)]
    assert list(refused) == [*(str(folder / name) for name in listed[1:4]), "nowhere://x", str(folder / "gone")]
    assert all(str(error).startswith(source) for source, error in refused.items())
    with pytest.raises(InputError, match=r"gone, .*other: no photo or video is there; .*gone: does not exist"):
        list(list_items([str(folder / "gone"), str(folder / "other")], refused={}))


@pytest.mark.parametrize("name", ["photo.jpg", "*.jpg", "list.txt"])
def test_a_server_that_does_not_answer_costs_its_source_only(folder: Path, name: str) -> None:
    pytest.importorskip("aiohttp", reason="aiohttp is not installed: nothing is read from web servers")
    with socket.socket() as taken:  # bound, but nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/{name}"
        refused: dict[str, CunetError] = {}
        items = list(list_items([url, str(folder / "a.mp4")], refused=refused))
        assert names(items, folder) == [("a.mp4",)]
        assert str(refused[url]).startswith(f"{url}: cannot be reached (")
        for sources in ([url], [url, str(folder / "gone")]):
            with pytest.raises(CunetError, match=r"cannot be reached \(.*\); check the address") as caught:
                list(list_items(sources, refused={}))
            assert caught.value.exit_code == 1
            assert "\n" not in str(caught.value)


def test_an_error_of_a_store_that_has_no_text_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def fail(*given: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "isdir", fail)
    with pytest.raises(CunetError, match=r"^memory://a\.jpg: cannot be reached \(TimeoutError\); check"):
        list(list_items(["memory://a.jpg"]))


def test_a_manifest_without_the_column_is_refused(folder: Path) -> None:
    (folder / "list.csv").write_text("file\na.mp4\n")
    with pytest.raises(InputError, match="has no column 'source'"):
        list(list_items([str(folder / "list.csv")]))


def test_items_go_through_text_and_parts_share_the_name_of_their_video() -> None:
    whole = Item("video", ("clip.mp4",))
    part = Item("video", ("clip.mp4",), Part(1, 100, 5000, 90, 10, 200))
    assert [Item.from_json(item.to_json()) for item in (whole, part)] == [whole, part]
    assert whole.key == part.key != Item("video", ("other.mp4",)).key
    output = Output("out")
    longer, last = (Item("video", ("clip.mp4",), Part(1, 100, 5000, 90, 10, end)) for end in (300, None))
    assert len({output.landmarks_path(item) for item in (whole, part, longer, last)}) == 4


@pytest.mark.parametrize("store", ["disk", "memory"])
def test_failures_are_recorded_until_an_item_is_tried_again(tmp_path: Path, store: str) -> None:
    output = Output(str(tmp_path / "out") if store == "disk" else "memory://failures")
    output.forget_failures([])
    clip, photos, other = Item("video", ("a.mp4",)), Item("images", ("b.jpg", "c.jpg")), Item("video", ("d.mp4",))
    assert output.record_failure(clip, InputError("a.mp4: is cut off")) == "a.mp4: is cut off"
    assert output.record_failure(photos, OSError("no connection")) == "b.jpg: OSError: no connection"
    output.record_failure(other, InputError("d.mp4: is cut off"))
    assert json.loads(output.read_bytes(f"failed/{photos.key}.json"))["sources"] == ["b.jpg", "c.jpg"]
    output.forget_failures([clip, Item("images", ("a.jpg", "b.jpg"))])
    assert [output.exists(f"failed/{item.key}.json") for item in (clip, photos, other)] == [False, False, True]
    for source in ("empty", "*.mp4", "list.txt"):
        output.record_failure(Item("video", (source,)), InputError("no photo or video is there"), "refused")
    output.forget_failures([])
    assert not output.exists("refused")
    output.remove("")


@pytest.mark.parametrize("kind", ["file", "link to itself", "link to nothing", "below a file"])
def test_an_output_that_can_be_no_folder_is_refused(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "link to itself":
        out.symlink_to(out)
    elif kind == "link to nothing":
        out.symlink_to(tmp_path / "gone")
    else:
        out.write_bytes(b"kept")
        out = out / "deeper" if kind == "below a file" else out
    with pytest.raises(InputError, match=r"out.*: cannot be a folder \([A-Z].*\); choose another output"):
        Output(str(out)).write_bytes("model/network.onnx", b"-")
    if kind in ("file", "below a file"):
        assert (tmp_path / "out").read_bytes() == b"kept"


@pytest.mark.parametrize("store", ["disk", "memory"])
def test_what_is_written_is_complete_or_not_there(tmp_path: Path, store: str) -> None:
    url = str(tmp_path / "out") if store == "disk" else "memory://complete"
    output = pickle.loads(pickle.dumps(Output(url)))
    schema = pa.schema([("frame", pa.int64())])

    def rows(fail: bool) -> object:
        yield [{"frame": 0}]
        if fail:
            raise InputError("broken")

    with pytest.raises(InputError):
        output.write_rows("landmarks/shard=ab/abc.parquet", schema, rows(True))
    assert output.done_keys() == set()
    output.write_rows("landmarks/shard=ab/abc.parquet", schema, rows(False))
    assert output.done_keys() == {"abc"}
    output.write_bytes("landmarks/shard=ab/x.parquet.1234.part", b"half")
    output.sweep()
    assert output.done_keys() == {"abc"}
    assert not output.exists("landmarks/shard=ab/x.parquet.1234.part")
    output.write_bytes("failed/x.json", json.dumps({}).encode())
    assert output.exists("failed/x.json")
    output.remove("")
