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
