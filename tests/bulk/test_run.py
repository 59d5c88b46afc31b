"""Bulk runs on a real Ray, on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from cunet_deploy import Localizer

if importlib.util.find_spec("ray") is None:
    pytest.skip("the extra [ray] is not installed", allow_module_level=True)
pq = pytest.importorskip("pyarrow.parquet")

from cunet_deploy.bulk.items import Item, Part  # noqa: E402
from cunet_deploy.bulk.join import join_parts  # noqa: E402
from cunet_deploy.bulk.results import METADATA_KEY, Output  # noqa: E402
from cunet_deploy.bulk.run import _join, load_model  # noqa: E402
from cunet_deploy.bulk.split import parts_of, read_part  # noqa: E402
from cunet_deploy.bulk.worker import Settings, Status, Worker  # noqa: E402
from cunet_deploy.cli.bulk import command  # noqa: E402
from cunet_deploy.media import VideoFile  # noqa: E402
from tools.clips import make_clip, spoil  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
CLIP, PHOTO = ROOT / "tests" / "data" / "demo.mp4", ROOT / "tests" / "data" / "astronaut.jpg"

BULK = "import sys; from cunet_deploy.cli import main; sys.argv[1:1] = ['bulk']; sys.exit(main())"
IN_PARTS = """
import sys
from cunet_deploy.bulk.results import Output
from cunet_deploy.bulk.run import load_model, run_bulk
from cunet_deploy.bulk.worker import Settings

output = Output(sys.argv[2])
settings = Settings(part_seconds=1.0, warm_up=15, jsonl=True)
print(run_bulk([sys.argv[1]], output, load_model("face68-s", output), settings, workers=2))
"""
TWO_NODES = """
import sys
from ray.cluster_utils import Cluster
from click.testing import CliRunner
from cunet_deploy.cli.bulk import command

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
cluster.add_node(num_cpus=1)
result = CliRunner().invoke(command, [*sys.argv[1:], "--address", cluster.address, "--workers", "2"])
print(result.output, result.exception or "")
cluster.shutdown()
"""

# Ray leaves sockets and files of its own to the garbage collector, and speaks of changes to come.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        shutil.copyfile(CLIP, folder / name)
    shutil.copyfile(PHOTO, folder / "photo.jpg")
    return folder


def python(code: str, *arguments: object) -> tuple[int, str]:
    """Run code in a process of its own: Ray ends a process whose cluster is gone, a minute later."""
    # a cluster's workers give way to everything else on the machine, unless it is told otherwise when it starts
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0"}
    line = [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    return done.returncode, done.stdout + done.stderr


def bulk(*arguments: object) -> tuple[int, str]:
    return python(BULK, *arguments)


def table(out: Path, source: str) -> list[dict[str, Any]]:
    """The rows of a source, in order."""
    rows = [row for file in out.glob("landmarks/*/*.parquet") for row in pq.ParquetFile(file).read().to_pylist()]
    return [row for row in rows if Path(row["source"]).name == source]


def test_results_are_those_of_infer_and_a_second_run_has_nothing_to_do(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (clips / "broken.mp4").write_bytes(b"no video")
    code, output = bulk(clips, "-o", out, "--workers", 2, "--jsonl", "--json", tmp_path / "report.json")
    assert code == 1
    assert "1 of 5 items failed" in output
    assert [line for line in output.splitlines() if line.startswith("[") or "(raylet)" in line] == []  # Ray is quiet
    (failed,) = (out / "failed").iterdir()
    assert "broken.mp4" in json.loads(failed.read_text())["error"]
    assert list((out / "attempts").iterdir()) == []  # only an item whose worker dies keeps its count
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["items"], report["done"], report["failed"], report["frames"]) == (5, 4, 1, 301)

    command_line = [sys.executable, "-m", "cunet_deploy", "infer", str(CLIP), "-o", str(tmp_path / "infer.jsonl")]
    subprocess.run(command_line, check=True, capture_output=True, cwd=ROOT)
    lines = (tmp_path / "infer.jsonl").read_text()
    assert sorted(path.read_text() == lines for path in (out / "jsonl").iterdir()) == [False, True, True, True]

    with Localizer() as localizer:
        frames = [frame.landmarks for frame in localizer.stream(CLIP)]
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        found = [row for row in table(out, name) if row["id"] is not None]
        assert [row["id"] for row in found] == [int(i) for frame in frames for i in frame.ids]
        points = np.concatenate([frame.points for frame in frames])
        np.testing.assert_array_equal(
            np.array([row["landmarks"] for row in found], np.float32), points.reshape(len(points), -1)
        )
        pose = [[row[angle] for angle in ("yaw", "pitch", "roll")] for row in found]
        np.testing.assert_array_equal(
            np.array(pose, np.float32), np.concatenate([frame.pose for frame in frames]).astype(np.float32)
        )
    about = json.loads(pq.read_schema(next(out.glob("landmarks/*/*.parquet"))).metadata[METADATA_KEY])
    assert about["manifest"]["name"] == "face68-s"

    times = {path: path.stat().st_mtime_ns for path in out.glob("landmarks/*/*.parquet")}
    shutil.copyfile(CLIP, clips / "broken.mp4")
    shutil.copyfile(PHOTO, clips / "another.jpg")
    code, output = bulk(clips, "-o", out, "--workers", 2)
    assert (code, "2 items, 4 done before, 0 failed; 101 frames" in output) == (0, True), output
    assert list((out / "failed").iterdir()) == []
    code, output = bulk(clips, "-o", out, "--workers", 2)
    assert (code, "0 items, 6 done before, 0 failed; 0 frames" in output) == (0, True), output
    assert all(path.stat().st_mtime_ns == when for path, when in times.items())
    assert [len(table(out, name)) for name in ("photo.jpg", "another.jpg", "one.mp4")] == [1, 1, 100]
    assert "another model" in bulk(clips, "-o", out, "--model", "face68-xs")[1]


def test_parts_of_a_video_are_read_as_in_the_whole() -> None:
    whole = list(VideoFile(CLIP))
    parts = parts_of(CLIP, 1.0, 10)
    assert len(parts) >= 2
    for part in parts:
        pictures = list(read_part(CLIP, part, []))
        assert pictures[0].index == part.first - part.warm_up
        for picture in pictures:
            assert picture.time_ms == pytest.approx(whole[picture.index].time_ms)
            np.testing.assert_array_equal(picture.image, whole[picture.index].image)
    assert pictures[-1].index == len(whole) - 1


def test_a_long_video_in_parts_keeps_its_tracks(clips: Path, tmp_path: Path) -> None:
    code, printed = python(IN_PARTS, clips / "one.mp4", tmp_path / "out")
    assert code == 0, printed
    assert "done=1, failed=0" in printed
    rows = table(tmp_path / "out", "one.mp4")
    with Localizer() as localizer:
        frames = [frame.landmarks for frame in localizer.stream(CLIP)]
    assert [row["frame"] for row in rows] == list(range(len(frames)))
    assert {row["id"] for row in rows} == {0}
    moved = [
        np.abs(np.array(row["landmarks"]).reshape(-1, 2) - frame.points[0]).max()
        for row, frame in zip(rows, frames, strict=True)
    ]
    (lines,) = (tmp_path / "out" / "jsonl").iterdir()
    assert [json.loads(line)["frame"] for line in lines.read_text().splitlines()] == list(range(len(frames)))
    assert moved[0] == 0
    assert np.mean(moved) < 0.3
    assert not (tmp_path / "out" / "parts").exists() or not list((tmp_path / "out" / "parts").iterdir())


def run_in_background(*arguments: object) -> subprocess.Popen[str]:
    line = [sys.executable, "-c", BULK, *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(line, **pipes, text=True, cwd=ROOT, start_new_session=True)


def wait_for(done: Any, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 600
    while not done():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children(process: subprocess.Popen[str]) -> list[tuple[int, str]]:
    """Processes of a session, with what they call themselves."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            if entry.name.isdigit() and int(fields[3]) == process.pid:
                found.append((int(entry.name), (entry / "cmdline").read_text().replace("\0", " ")))
        except (OSError, IndexError):
            continue
    return found


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for index in range(9):  # so that there is work left when the worker is killed
        (clips / f"more-{index}.mp4").symlink_to(CLIP)
    process = run_in_background(clips, "-o", out, "--workers", 2)
    wait_for(lambda: list(out.glob("attempts/*")), process)
    (worker, *_) = [pid for pid, name in children(process) if "MapWorker" in name]
    os.kill(worker, signal.SIGKILL)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    for clip in clips.glob("*.mp4"):
        assert [row["frame"] for row in table(out, clip.name)] == list(range(100))
    assert len(table(out, "photo.jpg")) == 1


def test_a_run_that_is_killed_goes_on_where_it_was(clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = run_in_background(clips, "-o", out, "--workers", 1)
    wait_for(lambda: list(out.glob("landmarks/*/*.parquet")), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    for pid, _ in children(process):
        os.kill(pid, signal.SIGKILL)
    before = {path: path.stat().st_mtime_ns for path in out.glob("landmarks/*/*.parquet")}
    code, output = bulk(clips, "-o", out, "--workers", 2)
    assert (code, f"{len(before)} done before" in output) == (0, True), output
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert all([row["frame"] for row in table(out, name)] == list(range(100)) for name in ("one.mp4", "two.mp4"))
    assert not list(out.rglob("*.part"))


def test_a_worker_leaves_no_files_behind_however_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    output = Output(str(tmp_path / "out"))
    worker = Worker(load_model(str(ROOT / "models" / "face68-s"), output), Settings(), output)
    assert worker.run(Item("video", (str(CLIP),))).error == ""
    assert not list((tmp_path / "temporary").iterdir())


def test_a_long_video_is_answered_with_its_parts(tmp_path: Path) -> None:
    output, item = Output(str(tmp_path)), Item("video", (str(CLIP),))
    worker = Worker(load_model("face68-s", output), Settings(part_seconds=1.0, warm_up=15), output)
    status = Status.from_json(worker.run(item).to_json())
    assert (status.frames, status.part, status.error) == (0, None, "")
    assert [part.part for part in status.parts] == parts_of(CLIP, 1.0, 15)
    assert {part.key for part in status.parts} == {item.key}
    answers = [worker.run(part) for part in status.parts]
    assert [answer.part for answer in answers] == list(range(len(status.parts)))
    assert worker.run(status.parts[0]).frames == 0  # it is done


def test_damage_is_told_in_parts_as_in_the_whole(tmp_path: Path) -> None:
    clip = spoil(make_clip(tmp_path / "clip.mp4", [40 * index for index in range(100)]), 40, 3)
    damage, written = [], []

    def told(lines: str) -> list[str]:
        return [line for line in lines.splitlines() if '"error"' in line]

    for name, settings in (
        ("whole", Settings(jsonl=True)),
        ("parts", Settings(part_seconds=1.0, warm_up=10, jsonl=True)),
    ):
        output, item = Output(str(tmp_path / name)), Item("video", (str(clip),))
        model = load_model("face68-s", output)
        worker = Worker(model, settings, output)
        status = worker.run(item)
        if status.parts:
            assert [worker.run(part).error for part in status.parts] == [""] * len(status.parts)
            join_parts(item, status.parts, model, output, jsonl=settings.jsonl)
        rows = table(tmp_path / name, "clip.mp4")
        assert len(rows) > 90
        damage.append([(row["frame"], row["error"]) for row in rows if row["error"]])
        (path,) = (tmp_path / name / "jsonl").iterdir()
        written.append(path.read_text())
    assert damage[0] == damage[1] != []
    command_line = [sys.executable, "-m", "cunet_deploy", "infer", str(clip), "-o", str(tmp_path / "infer.jsonl")]
    subprocess.run(command_line, check=True, capture_output=True, cwd=ROOT)
    assert written[0] == (tmp_path / "infer.jsonl").read_text()
    assert told(written[0]) == told(written[1]) != []


def test_an_item_that_kills_its_worker_is_given_up(tmp_path: Path) -> None:
    output, item = Output(str(tmp_path)), Item("video", (str(CLIP),))
    worker = Worker(load_model("face68-s", output), Settings(), output)
    output.write_bytes(f"attempts/{item.key}-0.json", b"3")
    status = worker.run(item)
    assert "its worker died 3 times" in status.error
    assert (tmp_path / "failed" / f"{item.key}.json").is_file()
    assert worker.run(item).error == ""  # the next run tries again


def test_a_video_whose_parts_cannot_be_joined_is_recorded(tmp_path: Path) -> None:
    output, part = Output(str(tmp_path)), Item("video", ("clip.mp4",), Part(0, 0, None, 0, 0, None))
    status = Status.from_json(_join([part], load_model("face68-s", output), output, False))
    assert "clip.mp4: FileNotFoundError: " in status.error
    (path,) = (tmp_path / "failed").iterdir()
    assert json.loads(path.read_text()) == {"sources": ["clip.mp4"], "error": status.error}


def test_a_record_of_a_failure_goes_when_its_item_is_done(tmp_path: Path) -> None:
    output, item = Output(str(tmp_path)), Item("images", (str(PHOTO),))
    worker = Worker(load_model("face68-s", output), Settings(), output)
    output.record_failure(item, OSError("no connection"))
    assert worker.run(item).error == ""
    result = CliRunner().invoke(command, [str(PHOTO), "-o", str(tmp_path)])
    assert "0 items, 1 done before" in result.output
    assert list((tmp_path / "failed").iterdir()) == []


def test_an_error_of_a_library_ends_its_item_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = Output(str(tmp_path))
    worker = Worker(load_model("face68-s", output), Settings(), output)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "_localize", lambda *given: (_ for _ in ()).throw(RuntimeError("no connection")))
        assert worker.run(Item("video", (str(CLIP),))).error == f"{CLIP}: RuntimeError: no connection"
    assert worker.run(Item("video", (str(CLIP),))).error == ""


def test_two_machines_share_the_work(clips: Path, tmp_path: Path) -> None:
    _, output = python(TWO_NODES, clips, "-o", tmp_path / "out")
    assert "4 items, 0 failed; 301 frames" in output, output


def test_a_cluster_that_is_not_there_is_said(clips: Path, tmp_path: Path) -> None:
    code, output = bulk(clips, "-o", tmp_path / "out", "--address", "127.0.0.1:9")
    assert (code, "cannot be reached" in output) == (1, True)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A bucket of an S3 server in this process; its file system."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: nothing is tested on S3")
    moto = pytest.importorskip("moto.server", reason="moto and flask are not installed: nothing is tested on S3")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    system = s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    system.mkdir("bucket")
    yield system
    server.stop()


def test_a_run_from_s3_to_s3(bucket: Any, clips: Path, tmp_path: Path) -> None:
    (clips / "broken.mp4").write_bytes(b"no video")
    bucket.put(f"{clips}/", "bucket/clips/", recursive=True)
    code, printed = bulk("s3://bucket/clips", "-o", "s3://bucket/out", "--workers", 2, "--jsonl")
    assert (code, "4 items, 1 failed; 301 frames" in printed) == (1, True), printed
    assert "failed: s3://bucket/clips/broken.mp4: " in printed
    assert len(Output("s3://bucket/out").done_keys()) == 4
    bucket.get("bucket/out/", str(tmp_path / "out"), recursive=True)
    with Localizer() as localizer:
        frames = [frame.landmarks for frame in localizer.stream(CLIP)]
    expected = np.concatenate([frame.points for frame in frames]).reshape(len(frames), -1)
    for name in ("one.mp4", "two.mp4", "three.mp4"):
        found = [row["landmarks"] for row in table(tmp_path / "out", name)]
        np.testing.assert_array_equal(np.array(found, np.float32), expected)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "failed",
        "jsonl",
        "landmarks",
        "model",
        "photos",
    ]
