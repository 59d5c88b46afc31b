"""Optimized graphs in the cache folder: the same results, and never in the way."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from dots import manifest, write_model
from networks import quantized, quantized_checkpoint
from numpy.typing import NDArray

from cunet_deploy.config import QuantConfig
from cunet_deploy.errors import ArtifactError
from cunet_deploy.export.targets.cpu import write_model as write_network
from cunet_deploy.sessions import onnxruntime as ort
from cunet_deploy.sessions import open_session, optimized
from cunet_deploy.sessions.cache import cache_folder
from cunet_deploy.sessions.optimized import KeptGraph, find_graph
from cunet_deploy.zoo import find_model, released_models

NETWORKS: dict[str, Callable[[], bytes]] = {
    "post": lambda: write_network(quantized_checkpoint("post")),
    "pre": lambda: write_network(quantized_checkpoint("pre", "conv7")),
    "refined, 1 bit": lambda: write_network(quantized("refined post", QuantConfig(weight_bits=1))),
    "hourglass, 4 bits": lambda: write_network(quantized("hourglass", QuantConfig(weight_bits=4))),
    "dense, ternary": lambda: write_network(quantized("dense pre", QuantConfig(weight_bits=2))),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CUNET_CACHE", str(folder))
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "dots.onnx")


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that ONNX Runtime was asked to load, in order."""
    paths: list[Path] = []
    real = ort._open

    def record(path: Path, *rest: Any) -> Any:
        paths.append(path)
        return real(path, *rest)

    monkeypatch.setattr(ort, "_open", record)
    return paths


def kept(cache: Path) -> list[Path]:
    return sorted(cache.iterdir()) if cache.is_dir() else []


def crops(size: int, batch: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)


def results(path: Path) -> list[bytes]:
    """Heatmaps of one crop and of a batch, to the bit."""
    with closing(open_session(path, threads=1)) as session:
        size = session.manifest.crop.size
        return [session.run(crops(size, batch)).tobytes() for batch in (1, 3)]


def test_the_second_time_the_optimized_graph_is_loaded(model: Path, cache: Path, opened: list[Path]) -> None:
    results(model)
    (file,) = kept(cache)
    results(model)
    assert opened == [model, file]


@pytest.mark.parametrize("name", NETWORKS)
def test_results_are_the_same_bit_for_bit(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    path = tmp_path / "network.onnx"
    path.write_bytes(NETWORKS[name]())
    first, second = results(path), results(path)
    assert opened[-1] != path
    monkeypatch.setenv("CUNET_CACHE", "off")
    assert first == second == results(path)
    assert opened[-1] == path


@pytest.mark.slow
@pytest.mark.parametrize("name", released_models())
def test_results_of_released_models_are_the_same_bit_for_bit(
    name: str, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    first, second = results(Path(name)), results(Path(name))
    assert opened[-1] != find_model(name)
    monkeypatch.setenv("CUNET_CACHE", "off")
    assert first == second == results(Path(name))


def test_manifest_and_backend_are_the_same(model: Path) -> None:
    with closing(open_session(model)) as first, closing(open_session(model)) as second:
        assert first.manifest == second.manifest == manifest()
        assert first.backend == second.backend


def test_no_memory_is_kept_for_each_size_of_a_batch(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[bool] = []
    real = ort._open

    def record(path: Path, options: Any, *others: Any) -> Any:
        planned.append(options.enable_mem_pattern)
        return real(path, options, *others)

    monkeypatch.setattr(ort, "_open", record)
    results(model)
    results(model)
    assert planned == [False, False]


def test_off_keeps_nothing(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]) -> None:
    monkeypatch.setenv("CUNET_CACHE", "off")
    assert cache_folder() is None
    assert results(model) == results(model)
    assert opened == [model, model]
    assert kept(cache) == []
    assert not Path("off").exists()


def _cut_off(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def _empty(file: Path) -> None:
    file.write_bytes(b"")


def _flip_a_bit(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def _another_network(file: Path) -> None:
    """The graph of another network, with its own checksum, under this one's key."""
    other = write_model(file.parent.parent / "other.onnx", manifest(name="other"))
    before = set(kept(file.parent))
    results(other)
    (foreign,) = set(kept(file.parent)) - before
    key = file.name.split("-")[1]
    foreign.replace(foreign.with_name(f"ort-{key}-{foreign.stem.split('-')[2]}.onnx"))
    file.unlink()


@pytest.mark.parametrize("damage", [_cut_off, _empty, _flip_a_bit, _another_network])
def test_what_is_damaged_or_of_another_network_is_made_again(
    damage: Callable[[Path], None], model: Path, cache: Path, opened: list[Path]
) -> None:
    expected = results(model)
    (file,) = kept(cache)
    damage(file)
    (bad,) = kept(cache)
    opened.clear()
    assert results(model) == expected
    assert opened == [model]
    (mended,) = kept(cache)
    assert (mended, mended.read_bytes()) != (bad, b"")
    assert results(model) == expected
    assert opened == [model, mended]


def test_a_graph_that_does_not_load_is_made_again(model: Path, cache: Path, opened: list[Path]) -> None:
    """Whole by its checksum, and nothing that ONNX Runtime reads: as a version with the same number would leave."""
    expected = results(model)
    (file,) = kept(cache)
    key = file.name.split("-")[1]
    file.unlink()
    with KeptGraph(cache, key).making() as temporary:
        temporary.write_bytes(b"no graph")
    opened.clear()
    assert results(model) == expected
    assert [path == model for path in opened] == [False, True]
    assert kept(cache) == [file]


def test_a_graph_that_is_removed_before_it_is_loaded_is_made_again(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    expected = results(model)
    (file,) = kept(cache)
    real = KeptGraph.find

    def find(self: KeptGraph) -> Path | None:
        found = real(self)
        file.unlink()  # as another program would that prunes the folder just then
        return found

    with monkeypatch.context() as patch:
        patch.setattr(KeptGraph, "find", find)
        assert results(model) == expected
    assert opened == [model, file, model]
    assert kept(cache) == [file]


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="no users and permissions here")
@pytest.mark.parametrize("change", ["owner", "permissions"])
def test_a_file_that_another_user_may_have_written_is_not_used(
    change: str, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    results(model)
    (file,) = kept(cache)
    if change == "owner":
        user = os.geteuid()
        monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    else:
        file.chmod(0o666)
    opened.clear()
    results(model)
    assert opened == [model]


def test_a_folder_under_the_name_of_a_graph_is_passed_over(model: Path, cache: Path, opened: list[Path]) -> None:
    results(model)
    (file,) = kept(cache)
    file.unlink()
    (file / "inside").mkdir(parents=True)
    expected = results(model)
    assert results(model) == expected
    assert set(opened) == {model}
    assert kept(cache) == [file]


def test_without_a_place_to_write_the_network_runs(model: Path, cache: Path, opened: list[Path]) -> None:
    cache.write_text("a file where the folder should be")
    assert results(model) == results(model)
    assert set(opened) == {model}


@pytest.mark.parametrize("error", [errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_a_folder_that_cannot_be_written_to_is_read(
    error: int, model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    expected = results(model)
    (file,) = kept(cache)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    assert results(model) == expected
    assert opened[-1] == file
    file.unlink()
    assert results(model) == expected
    assert (opened[-1], kept(cache)) == (model, [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_on_a_full_disk_the_network_runs_and_nothing_is_left(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = tempfile.mkstemp

    def make_full(*arguments: Any) -> tuple[int, str]:
        handle, name = real(*arguments)
        Path(name).unlink()
        Path(name).symlink_to("/dev/full")
        return handle, name

    expected = results(model)
    (file,) = kept(cache)
    file.unlink()
    monkeypatch.setattr(tempfile, "mkstemp", make_full)
    assert results(model) == expected
    assert kept(cache) == []


def test_a_damaged_network_is_named_and_leaves_nothing(model: Path, cache: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    half.write_bytes(model.read_bytes()[:-200])
    with pytest.raises(ArtifactError, match=r"half\.onnx: ONNX Runtime .* cannot load it"):
        open_session(half)
    assert kept(cache) == []


def test_a_bundle_whose_checksum_is_wrong_is_refused_though_its_graph_is_kept(tmp_path: Path, cache: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    sidecar = tmp_path / "manifest.json"
    sidecar.write_text(json.dumps({**manifest().to_dict(), "sha256": sha256}))
    results(path)
    assert len(kept(cache)) == 1
    sidecar.write_text(json.dumps({**manifest().to_dict(), "sha256": "0" * 64}))
    with pytest.raises(ArtifactError, match="checksum"):
        open_session(path)


@pytest.mark.parametrize(
    ("said", "metadata", "message"),
    [(manifest(stride=2), True, "its manifest says"), (manifest(), False, "no cunet-deploy manifest")],
)
def test_what_is_refused_at_first_is_refused_from_the_cache(
    said: Any, metadata: bool, message: str, tmp_path: Path, cache: Path, opened: list[Path]
) -> None:
    path = write_model(tmp_path / "dots.onnx", said, metadata=metadata)
    for _ in range(2):
        with pytest.raises(ArtifactError, match=message):
            open_session(path)
    assert opened == [path, *kept(cache)]


def test_network_processor_and_settings_have_graphs_of_their_own(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def key(path: Path, **settings: str) -> str:
        found = find_graph(path, settings)
        assert found is not None
        return found._key

    keys = [key(model), key(write_model(tmp_path / "other.onnx", manifest(licence="another"))), key(model, version="2")]
    monkeypatch.setattr(optimized, "read_cpuinfo", lambda: "model name\t: another\nflags\t\t: avx2\n")
    keys.append(key(model))
    assert len(set(keys)) == 4
    assert key(model) == keys[-1]


def test_another_onnxruntime_does_not_use_the_graph(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, opened: list[Path]
) -> None:
    results(model)
    monkeypatch.setattr(onnxruntime, "__version__", "9.9")
    results(model)
    assert opened == [model, model]
    assert len(kept(cache)) == 2


def test_many_threads_may_open_a_network_at_once(model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimized, "MOST_FILES", 1)  # so that they remove what others are about to read
    others = [write_model(model.with_name(f"{index}.onnx"), manifest(name=str(index))) for index in range(3)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(results, [model, *others] * 6))
    assert all(item == found[0] for item in found)
    assert len(kept(cache)) <= 1  # the last one that was written has seen all others; no temporary one is left


def test_several_programs_may_open_a_network_at_once(model: Path, cache: Path) -> None:
    code = (
        "import sys, hashlib; import numpy as np; from cunet_deploy.sessions import open_session\n"
        "for _ in range(5):\n"
        "    maps = open_session(sys.argv[1], threads=1).run(np.full((1, 64, 64, 3), 77, np.uint8))\n"
        "print(hashlib.sha256(maps.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(model)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = {process.communicate()[0] for process in running}
    assert [process.returncode for process in running] == [0, 0, 0]
    assert len(printed) == 1
    assert len(kept(cache)) == 1
