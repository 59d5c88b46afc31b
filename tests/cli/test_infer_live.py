"""``infer`` on what comes when it wants to, and on what breaks: as a program, with real streams, pipes and signals."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dots import scene
from mjpeg import MjpegServer

from cunet_deploy.media import open_source
from cunet_deploy.media.writers.video import VideoWriter

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and limits of POSIX")

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240.0
"""Seconds that a test waits before it fails; no test takes that long."""


def picture(number: int) -> np.ndarray:
    return scene((120 + number % 40, 110), 36)[0]


@pytest.fixture
def server() -> Iterator[MjpegServer]:
    with MjpegServer(picture, fps=40) as server:
        yield server


class Program:
    """``infer`` in a process of its own, in an empty folder."""

    def __init__(self, model: Path, folder: Path) -> None:
        self._model, self.folder = model, folder

    def start(self, source: str | Path, *options: str, **how: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cunet_deploy", "infer", str(source), "--model", str(self._model)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        command += ["--threads", "1", *options]
        return subprocess.Popen(command, cwd=self.folder, env=environment, text=True, **pipes)

    def run(self, source: str | Path, *options: str, **how: Any) -> subprocess.CompletedProcess[str]:
        with self.start(source, *options, **how) as process:
            stdout, stderr = process.communicate(timeout=LIMIT)
        return subprocess.CompletedProcess([], process.returncode, stdout, stderr)

    def wait_for_lines(self, process: subprocess.Popen[str]) -> None:
        """Until the first results are on the disk."""
        end = time.monotonic() + LIMIT
        while not any(path.stat().st_size for path in self.folder.glob("*.jsonl.part")):
            assert time.monotonic() < end
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)

    def lines(self, name: str = "out.jsonl") -> list[dict[str, Any]]:
        text = (self.folder / name).read_text()
        assert text.endswith("\n")
        return [json.loads(line) for line in text.splitlines()]

    def frames(self) -> int:
        """Number of frames that have lines: one with two objects has two."""
        return len({line["frame"] for line in self.lines()})


@pytest.fixture
def program(dots_model: Path, tmp_path: Path) -> Program:
    (tmp_path / "work").mkdir()
    return Program(dots_model, tmp_path / "work")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    writer = VideoWriter(tmp_path / "clip.avi", 25, (320, 240))
    for index in range(400):
        writer.write(picture(index))
    writer.close()
    return tmp_path / "clip.avi"


def test_a_stream_becomes_a_video_and_lines_with_real_times(program: Program, server: MjpegServer) -> None:
    done = program.run(server.url, "-o", "out.mp4", "--frames", "30", "--progress", "json")
    assert done.returncode == 0, done.stderr
    assert "30 frames, 30 with landmarks" in done.stdout
    assert "dropped" in done.stdout
    found = program.lines()
    assert len(found) == 30
    times = [line["time_ms"] for line in found]
    assert times == sorted(set(times))
    last = json.loads(done.stderr.splitlines()[-1])
    assert list(last) == ["frames", "total", "fps", "objects", "dropped", "elapsed_s", "left_s", "done"]
    assert (last["frames"], last["total"], last["objects"], last["done"]) == (30, 30, 1, True)
    assert last["dropped"] == found[-1]["frame"] + 1 - 30
    shown = [picture.time_ms for picture in open_source(program.folder / "out.mp4")]
    assert shown == pytest.approx(
        [each - times[0] for each in times], abs=1
    )  # a busy machine leaves out the first ones


def test_a_stream_that_is_cut_comes_back_in_the_same_files(program: Program, server: MjpegServer) -> None:
    with program.start(server.url, "-o", "out.jsonl", "--frames", "150", "--timeout", "5") as process:
        program.wait_for_lines(process)
        server.cut()
        time.sleep(0.4)
        server.start()
        _, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 0, stderr
    assert "no more frames; trying to open it again" in stderr
    assert "is back after" in stderr
    found = program.lines()
    assert len(found) == 150
    assert max(np.diff([line["time_ms"] for line in found])) > 300


def test_a_stream_that_stays_away_keeps_what_was_done_and_is_1(program: Program, server: MjpegServer) -> None:
    with program.start(server.url, "-o", "out.mp4", "--timeout", "2", "--reconnect", "1") as process:
        program.wait_for_lines(process)
        server.cut()
        stdout, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    last = stderr.splitlines()[-1]
    assert last.startswith("cunet-deploy: error: http://127.0.0.1")
    assert "did not come back" in last
    assert "Traceback" not in stderr
    assert f"{program.frames()} frames" in stdout
    assert len(list(open_source(program.folder / "out.mp4"))) == program.frames() > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_is_enough_while_a_stream_stalls(
    program: Program, server: MjpegServer, number: signal.Signals
) -> None:
    with program.start(server.url, "-o", "out.mp4", "--timeout", "300") as process:
        program.wait_for_lines(process)
        server.stall()
        time.sleep(0.3)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=LIMIT)  # which is less than that of the stream
    assert process.returncode == 130, stderr
    assert stderr == "cunet-deploy: interrupted\n"
    assert f"{program.frames()} frames" in stdout
    assert len(list(open_source(program.folder / "out.mp4"))) == program.frames() > 0


def test_ctrl_c_is_heard_while_a_stream_is_opened(program: Program) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        with program.start(url, "-o", "out.mp4", "--timeout", "300") as process:
            silent.settimeout(LIMIT)
            connection, _ = silent.accept()
            with contextlib.closing(connection):
                time.sleep(0.2)
                process.send_signal(signal.SIGINT)
                _, stderr = process.communicate(timeout=LIMIT)  # which is less than that of the stream
    assert process.returncode == 130, stderr
    assert stderr == "cunet-deploy: interrupted\n"
    assert list(program.folder.iterdir()) == []


def test_ctrl_c_is_heard_while_a_pipe_gives_nothing(program: Program) -> None:
    frame = picture(0).tobytes()
    with program.start("-", "--size", "320x240@25", "-o", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(5):
            process.stdin.buffer.write(frame)  # type: ignore[attr-defined]
        process.stdin.flush()
        lines = [process.stdout.readline() for _ in range(5)]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=LIMIT) == 130
        assert process.stdout.read() == ""
        assert process.stderr.read().endswith("cunet-deploy: interrupted\n")
    assert [json.loads(line)["frame"] for line in lines] == list(range(5))


def test_raw_frames_from_a_pipe_are_localized(program: Program, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.write_bytes(b"".join(picture(index).tobytes() for index in range(12)))
    with raw.open("rb") as file:
        done = program.run("-", "--size", "320x240@20", "-o", "out.mp4", stdin=file)
    assert done.returncode == 0, done.stderr
    found = program.lines()
    assert [line["time_ms"] for line in found] == [50.0 * index for index in range(12)]
    assert all(line["landmarks"] for line in found)


def test_a_pipe_that_nobody_reads_any_more_ends_quietly(program: Program, clip: Path) -> None:
    with program.start(clip, "-o", "-") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["frame"] == 0
        process.stdout.close()
        process.wait(timeout=LIMIT)
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1
    assert list(program.folder.iterdir()) == []


def test_lines_on_standard_output_are_nothing_but_lines(program: Program, clip: Path) -> None:
    done = program.run(clip, "-o", "-", "--frames", "7")
    assert done.returncode == 0
    assert [json.loads(line)["frame"] for line in done.stdout.splitlines()] == list(range(7))
    assert "7 frames" in done.stderr
    assert "; wrote to stdout\n" in done.stderr


@pytest.mark.parametrize(
    ("number", "arguments", "code", "told"),
    [
        (0, ("-", "--size", "320x240", "-o", "none"), 2, "stdin is closed; pipe bgr24 frames into it"),
        (1, ("clip", "-o", "-"), 1, "standard output is closed; leave it open, or name a file"),
        (1, ("clip", "-o", "out.jsonl", "--frames", "2"), 0, ""),
        (2, ("clip", "-o", "out.jsonl", "--frames", "2"), 0, ""),
    ],
)
def test_a_closed_standard_stream_is_one_line_or_does_no_harm(
    program: Program, clip: Path, number: int, arguments: tuple[str, ...], code: int, told: str
) -> None:
    source, *options = [str(clip) if each == "clip" else each for each in arguments]
    done = program.run(source, *options, preexec_fn=lambda: os.close(number))
    assert done.returncode == code, done.stderr
    assert done.stderr == (f"cunet-deploy: error: {told}\n" if told else "")
    assert code or program.frames() == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_standard_output_on_a_full_disk_is_one_line_and_1(program: Program, clip: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = program.run(clip, "-o", "-", stdout=full)
    assert done.returncode == 1
    assert done.stderr == (
        "cunet-deploy: error: standard output: cannot be written: the disk is full; free some space or choose another "
        "folder\n"
    )


@pytest.mark.parametrize("name", ["out.mp4", "out.avi"])
def test_a_file_that_may_not_grow_keeps_the_records(program: Program, clip: Path, name: str) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))

    done = program.run(clip, "-o", name, preexec_fn=limit)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "error: out." in done.stderr
    found = program.lines()
    assert 10 < len(found) <= 400
    assert [line["frame"] for line in found] == list(range(len(found)))
    video = program.folder / name
    assert len(list(itertools.islice(open_source(video), 10))) == 10  # what came before plays
    assert name in done.stdout
    assert not any(path.stat().st_size for path in program.folder.glob("*.part"))  # marks, not files that were left
