"""The choice of a backend, with fake networks and a clock that only they move."""

from __future__ import annotations

import importlib.util
import itertools
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from clocks import Clock
from dots import manifest, scene, write_model
from numpy.typing import NDArray
from openvino_here import needs_openvino

from cunet_deploy import Localizer
from cunet_deploy.cli import cli
from cunet_deploy.errors import ArtifactError, CunetError, InputError, VerificationError
from cunet_deploy.manifest import Manifest
from cunet_deploy.sessions import auto, choose_backend, open_session
from cunet_deploy.sessions.auto import Choice, choose, measure
from cunet_deploy.sessions.base import Session


@dataclass
class Network:
    """Finds every landmark at one place of the map, and takes its time."""

    clock: Clock
    seconds: float
    cell: int = 5
    error: CunetError | None = None
    opened: int = 0
    runs: int = 0
    closed: int = 0
    log: list[str] = field(default_factory=list)
    name: str = ""
    manifest: Manifest = field(default_factory=manifest)
    backend: str = "fake"

    def open(self) -> Session:
        if self.error is not None:
            raise self.error
        self.opened += 1
        return self

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.runs += 1
        self.log.append(self.name)
        self.clock.now += self.seconds
        maps = np.zeros((len(images), 5, 16, 16), np.float32)
        maps[:, :, self.cell, self.cell] = 1
        return maps

    def close(self) -> None:
        self.closed += 1


Networks = Callable[..., dict[str, Network]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def networks(clock: Clock) -> Networks:
    """Fakes by name; keywords are milliseconds, or whole networks."""

    def make(**given: float | Network) -> dict[str, Network]:
        log: list[str] = []
        made = {}
        for key, value in given.items():
            name = key.replace("_", ":")
            made[name] = value if isinstance(value, Network) else Network(clock, value / 1000)
            made[name].name, made[name].log = name, log
        return made

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    return write_model(tmp_path / "bundle" / "model.onnx")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("CUNET_CACHE", str(folder))
    return folder


def write_golden(model: Path, images: NDArray[np.uint8], points: NDArray[np.floating]) -> None:
    maps = np.zeros((len(images), 5, 16, 16), np.float32)
    np.savez(model.with_name("golden.npz"), images=images, points=points, heatmaps=maps)


def measured(model: Path, found: dict[str, Network], clock: Clock, threads: int | None = 1) -> Choice:
    return measure(model, {name: item.open for name, item in found.items()}, {}, threads=threads, clock=clock)


def chosen(model: Path, found: dict[str, Network], clock: Clock, threads: int | None = 1) -> Choice:
    return choose(model, {name: item.open for name, item in found.items()}, {}, threads=threads, clock=clock)


def test_the_fastest_is_taken_and_the_line_says_why(model: Path, networks: Networks, clock: Clock) -> None:
    found = networks(ort_cpu=2, openvino=1)
    choice = measured(model, found, clock)
    assert choice.backend == "openvino"
    assert choice.ms == pytest.approx({"ort:cpu": 2, "openvino": 1})
    assert choice.line() == "backend auto takes openvino: openvino 1.00 ms, ort:cpu 2.00 ms a crop"
    assert all(item.opened == item.closed == 1 for item in found.values())


def test_the_default_stays_where_another_one_is_hardly_faster(model: Path, networks: Networks, clock: Clock) -> None:
    choice = measured(model, networks(ort_cpu=1, openvino=0.98), clock)
    assert choice.backend == "ort:cpu"
    assert choice.line().endswith("; ort:cpu is kept unless another one is 3% faster")
    assert measured(model, networks(ort_cpu=1, openvino=0.96), clock).backend == "openvino"


def test_backends_take_turns_for_about_two_seconds(model: Path, networks: Networks, clock: Clock) -> None:
    found = networks(ort_cpu=20, openvino=30)
    measured(model, found, clock)
    assert clock.now == pytest.approx(2, abs=0.2 + 0.05)
    calls = found["openvino"].log[4:]  # behind the looks of both at two crops
    assert [len(list(turn)) for _, turn in itertools.groupby(calls)] == [5] * (len(calls) // 5)


@pytest.mark.parametrize("threads", [2, None])
def test_with_several_threads_only_the_backend_being_timed_is_open(
    model: Path, networks: Networks, clock: Clock, threads: int | None
) -> None:
    found = networks(ort_cpu=2, openvino=1)
    for item in found.values():
        run = item.run

        def alone(images: NDArray[np.uint8], run: Callable[..., Any] = run) -> Any:
            assert sum(other.opened - other.closed for other in found.values()) == 1
            return run(images)

        item.run = alone  # type: ignore[method-assign]
    choice = measured(model, found, clock, threads)
    assert choice.backend == "openvino"
    assert choice.ms == pytest.approx({"ort:cpu": 2, "openvino": 1})
    assert all(item.opened == item.closed == 3 for item in found.values())
    assert clock.now < 2


def test_with_several_threads_one_round_is_enough_where_opening_takes_long(
    model: Path, networks: Networks, clock: Clock
) -> None:
    found = networks(ort_cpu=2, openvino=1)
    for item in found.values():
        open_at_once = item.open

        def open_slowly(open_at_once: Callable[[], Session] = open_at_once) -> Session:
            clock.now += 3
            return open_at_once()

        item.open = open_slowly  # type: ignore[method-assign]
    assert measured(model, found, clock, 2).backend == "openvino"
    assert all(item.opened == 2 for item in found.values())


def test_a_slow_network_has_a_few_turns_all_the_same(model: Path, networks: Networks, clock: Clock) -> None:
    found = networks(ort_cpu=900, openvino=800)
    assert measured(model, found, clock).backend == "openvino"
    assert found["openvino"].runs >= 9


def test_one_slow_call_does_not_decide(model: Path, networks: Networks, clock: Clock) -> None:
    found = networks(ort_cpu=2, openvino=1)
    run, calls = found["openvino"].run, iter(range(1000))

    def stalling(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        clock.now += 0.5 * (next(calls) == 7)
        return run(images)

    found["openvino"].run = stalling  # type: ignore[method-assign]
    assert measured(model, found, clock).backend == "openvino"


def test_what_does_not_load_is_named_with_its_reason(model: Path, networks: Networks, clock: Clock) -> None:
    broken = Network(clock, 0.001, error=ArtifactError("no CUDA driver"))
    choice = measured(model, networks(ort_cpu=2, ort_cuda=broken, openvino=3), clock)
    assert choice.backend == "ort:cpu"
    assert choice.left_out == {"ort:cuda": "does not load (no CUDA driver)"}
    assert "; ort:cuda left out: does not load (no CUDA driver)" in choice.line()


def test_what_finds_other_landmarks_is_left_out_however_fast(model: Path, networks: Networks, clock: Clock) -> None:
    found = networks(ort_cpu=2, openvino=Network(clock, 0.001, cell=6))
    choice = measured(model, found, clock)
    assert choice.backend == "ort:cpu"
    distance = 4 * 2**0.5  # one cell to the right and one down
    assert choice.left_out["openvino"].startswith(f"finds landmarks {distance:.2f} px of the input away")
    assert choice.ms == {}
    assert "the only one that can run it" in choice.line()
    assert found["openvino"].closed == 1


def test_golden_inputs_decide_what_is_right_even_against_the_default(
    model: Path, networks: Networks, clock: Clock
) -> None:
    images, points = np.zeros((2, 64, 64, 3), np.uint8), np.full((2, 5, 2), 5 * 4 + 1.5, np.float32)
    write_golden(model, images, points)
    choice = measured(model, networks(ort_cpu=Network(clock, 0.001, cell=6), openvino=2), clock)
    assert choice.backend == "openvino"
    assert "away from where they should be" in choice.left_out["ort:cpu"]


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"junk"], ids=["empty", "no archive", "junk"])
def test_damaged_golden_inputs_are_left_to_verify(
    model: Path, networks: Networks, clock: Clock, content: bytes
) -> None:
    model.with_name("golden.npz").write_bytes(content)
    assert measured(model, networks(ort_cpu=2, openvino=1), clock).backend == "openvino"


def test_golden_inputs_of_another_network_are_not_used(model: Path, networks: Networks, clock: Clock) -> None:
    write_golden(model, np.zeros((2, 32, 32, 3), np.uint8), np.zeros((2, 5, 2)))
    assert measured(model, networks(ort_cpu=2, openvino=1), clock).backend == "openvino"


def test_when_nothing_runs_as_it_should_the_error_names_every_reason(
    model: Path, networks: Networks, clock: Clock
) -> None:
    write_golden(model, np.zeros((1, 64, 64, 3), np.uint8), np.zeros((1, 5, 2)))
    broken = Network(clock, 0.001, error=ArtifactError("no plugin"))
    with pytest.raises(
        VerificationError,
        match=r"no plugin\); ort:cpu: finds landmarks \d+\.\d+ px .* name the backend to take all the same$",
    ):
        measured(model, networks(openvino=broken, ort_cpu=2), clock)


def test_a_backend_that_fails_while_it_runs_is_named_too(model: Path, networks: Networks, clock: Clock) -> None:
    found = networks(ort_cpu=2, openvino=1)

    def fail(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raise CunetError("out of memory")

    found["openvino"].run = fail  # type: ignore[method-assign]
    assert measured(model, found, clock).left_out == {"openvino": "fails (out of memory)"}


def test_a_choice_is_remembered_and_says_so(model: Path, networks: Networks, clock: Clock, cache: Path) -> None:
    first = chosen(model, networks(ort_cpu=2, openvino=1), clock)
    again = networks(ort_cpu=1, openvino=2)  # would be chosen otherwise now
    second = chosen(model, again, clock)
    assert (second.backend, second.ms) == (first.backend, first.ms)
    assert not any(item.opened for item in again.values())
    assert second.recalled
    assert "measured earlier" in second.line()
    (file,) = cache.iterdir()
    table = json.loads(file.read_text())
    assert {"processor", "instruction_sets", "cpus", "threads", "libraries", "sha256"} <= set(table["fingerprint"])


def _other_threads(model: Path, monkeypatch: pytest.MonkeyPatch) -> int | None:
    return 2


def _other_processor(model: Path, monkeypatch: pytest.MonkeyPatch) -> int | None:
    monkeypatch.setattr(auto, "read_cpuinfo", lambda: "model name\t: another\nflags\t\t: avx2\n")
    return 1


def _other_library(model: Path, monkeypatch: pytest.MonkeyPatch) -> int | None:
    monkeypatch.setattr(auto, "_version", lambda package: "9.9")
    return 1


def _other_network(model: Path, monkeypatch: pytest.MonkeyPatch) -> int | None:
    write_model(model, manifest(licence="another"))
    return 1


@pytest.mark.parametrize("change", [_other_threads, _other_processor, _other_library, _other_network])
def test_another_machine_library_network_or_number_of_threads_is_measured_anew(
    change: Callable[[Path, pytest.MonkeyPatch], int | None],
    model: Path,
    networks: Networks,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen(model, networks(ort_cpu=2, openvino=1), clock)
    threads = change(model, monkeypatch)
    choice = chosen(model, networks(ort_cpu=1, openvino=2), clock, threads)
    assert (choice.backend, choice.recalled) == ("ort:cpu", False)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"fingerprint": {}, "backend": "openvino"}'])
def test_a_damaged_memory_is_measured_anew_and_mended(
    text: str, model: Path, networks: Networks, clock: Clock, cache: Path
) -> None:
    chosen(model, networks(ort_cpu=2, openvino=1), clock)
    (file,) = cache.iterdir()
    file.write_text(text)
    assert not chosen(model, networks(ort_cpu=2, openvino=1), clock).recalled
    assert chosen(model, networks(ort_cpu=2, openvino=1), clock).recalled


def test_a_memory_that_cannot_be_written_is_no_error(
    model: Path, networks: Networks, clock: Clock, cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    for _ in range(2):
        assert not chosen(model, networks(ort_cpu=2, openvino=1), clock).recalled


def test_the_memory_is_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUNET_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert auto.cache_folder() == tmp_path / "xdg" / "cunet-deploy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert auto.cache_folder() == tmp_path / ".cache" / "cunet-deploy"


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else real(name))


@pytest.mark.usefixtures("without_openvino")
def test_with_one_backend_nothing_is_timed_and_the_line_says_what_installs_another(model: Path) -> None:
    choice = choose_backend(model, threads=1)
    assert (choice.backend, choice.ms) == ("ort:cpu", {})
    assert choice.line() == (
        "backend auto takes ort:cpu: the only one that can run it; openvino is not installed: "
        "pip install 'cunet-deploy[openvino]'"
    )


@pytest.mark.usefixtures("without_openvino")
def test_commands_say_the_choice_on_stderr_and_are_quiet_when_asked_to(model: Path) -> None:
    arguments = ["bench", str(model), "--backend", "auto", "--rounds", "1", "--calls", "1"]
    loud, quiet = (CliRunner().invoke(cli, [*options, *arguments]) for options in ([], ["--quiet"]))
    assert loud.exit_code == quiet.exit_code == 0, loud.output
    assert loud.stderr.count("backend auto takes ort:cpu") == 1
    assert quiet.stderr == ""
    assert "ort:cpu, 1 thread" in loud.stdout


@pytest.mark.usefixtures("without_openvino")
def test_python_takes_it_too_and_logs_the_choice(model: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cunet_deploy"), Localizer(model, threads=1, backend="auto") as localizer:
        assert localizer.backend.startswith("onnxruntime")
    assert [record.levelname for record in caplog.records if "backend auto takes" in record.message] == ["INFO"]


def test_a_backend_that_was_left_out_is_a_warning_in_python(
    model: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    choice = Choice("ort:cpu", {}, {"openvino": "does not load (no plugin)"}, {})
    monkeypatch.setattr("cunet_deploy.sessions.opening.choose_backend", lambda engine, threads: choice)
    with caplog.at_level(logging.INFO, "cunet_deploy"):
        open_session(model, threads=1, backend="auto").close()
    (record,) = (record for record in caplog.records if "backend auto takes" in record.message)
    assert record.levelname == "WARNING"
    assert "no plugin" in record.message


@needs_openvino
def test_the_real_backends_are_measured_and_one_of_them_is_taken(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "_SECONDS", 0.1)
    choice = choose_backend(model, threads=1)
    assert set(choice.ms) == {"ort:cpu", "openvino"}
    assert choice.left_out == {}
    session = open_session(model, threads=1, backend="auto")
    assert session.backend.startswith({"ort:cpu": "onnxruntime", "openvino": "openvino"}[choice.backend])
    assert session.run(scene(size=(64, 64), center=(32, 32), half=20)[0][None]).shape == (1, 5, 16, 16)


def test_engines_run_in_tensorrt_and_nothing_is_measured(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "model.engine").touch()
    assert choose_backend(tmp_path / "model.engine").backend == "tensorrt"
    assert not cache.exists()


def test_an_unknown_backend_lists_those_that_there_are(model: Path) -> None:
    with pytest.raises(InputError, match=r"unknown backend 'onnx'; choose from ort:cpu, .*openvino.*, auto"):
        open_session(model, backend="onnx")
