"""Sources and results in object stores."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)
pytest.importorskip("pyarrow.parquet")

from cunet_deploy.bulk.items import list_items
from cunet_deploy.bulk.results import Output
from cunet_deploy.bulk.run import load_model, run_bulk
from cunet_deploy.bulk.worker import Settings, Worker
from cunet_deploy.errors import CunetError

DATA = Path(__file__).resolve().parents[1] / "data"
CLIP, PHOTO = DATA / "demo.mp4", DATA / "astronaut.jpg"


def test_sources_and_results_may_lie_in_an_object_store() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/in/clip.mp4", CLIP.read_bytes())
    memory.pipe("/in/photo.jpg", PHOTO.read_bytes())
    output = Output("memory://out")
    worker = Worker(load_model("face68-s", output), Settings(), output)
    items = list(list_items(["memory://in"]))
    assert [item.sources for item in items] == [("memory:///in/clip.mp4",), ("memory:///in/photo.jpg",)]
    assert [(status.frames, status.error) for status in map(worker.run, items)] == [(100, ""), (1, "")]
    assert output.done_keys() == {item.key for item in items}
    assert {row["source"] for row in output.read_rows(output.landmarks_path(items[0]))} == set(items[0].sources)
    assert not memory.find("/out/attempts")


def test_no_message_tells_the_password_of_a_url() -> None:
    import fsspec

    class Emptied(fsspec.AbstractFileSystem):  # type: ignore[misc]  # has no type information
        """A store whose files were deleted after they were listed; it names them by their URLs."""

        protocol = "emptied"

        def isdir(self, path: str, **options: Any) -> bool:
            return False

        def isfile(self, path: str, **options: Any) -> bool:
            if "reset" in path:
                raise ConnectionResetError(f"emptied://{path}")
            return "gone" not in path

        def get_file(self, path: str, target: str, **options: Any) -> None:
            raise FileNotFoundError(f"emptied://{path}")

    fsspec.register_implementation("emptied", Emptied, clobber=True)
    names = ["a.jpg", "b.mp4", "gone.jpg", "reset.jpg"]
    refused: dict[str, CunetError] = {}
    items = list(list_items([f"emptied://me:secret@host/{name}" for name in names], refused=refused))
    output = Output("memory://emptied")
    worker = Worker(load_model("face68-s", output), Settings(), output)
    statuses = {item.kind: worker.run(item) for item in items}
    (row,) = output.read_rows(output.landmarks_path(next(item for item in items if item.kind == "images")))
    assert row["source"] == "emptied://host/a.jpg"
    assert row["error"] == "cannot be copied here (emptied://host/a.jpg)"
    assert statuses["video"].error == "emptied://host/b.mp4: FileNotFoundError: emptied://host/b.mp4"
    assert [str(error).partition(";")[0] for error in refused.values()] == [
        "emptied://host/gone.jpg: does not exist, or is no file",
        "emptied://host/reset.jpg: cannot be reached (emptied://host/reset.jpg)",
    ]
    with pytest.raises(CunetError, match=r"^emptied://host/gone\.jpg, emptied://host/gone\.mp4: no photo"):
        list(list_items([f"emptied://me:secret@host/gone.{kind}" for kind in ("jpg", "mp4")], refused={}))


def test_an_output_whose_store_is_out_of_reach_is_named_in_one_line() -> None:
    import fsspec

    class LibraryError(Exception):
        """An error of the library of a store."""

    class Gone(fsspec.AbstractFileSystem):  # type: ignore[misc]  # has no type information
        protocol = "gone"

        def info(self, path: str, **options: Any) -> dict[str, Any]:
            raise LibraryError("no route to host")

        def exists(self, path: str, **options: Any) -> bool:
            raise LibraryError("no route to host")

    fsspec.register_implementation("gone", Gone, clobber=True)
    output, line = (
        Output("gone://me:secret@host/out"),
        r"^gone://host/out: cannot be reached \(no route to host\); check",
    )
    with pytest.raises(CunetError, match=line):
        load_model("face68-s", output)
    model = load_model("face68-s", Output("memory://model"))
    with pytest.raises(CunetError, match=line):
        run_bulk([str(PHOTO)], output, model, Settings())
