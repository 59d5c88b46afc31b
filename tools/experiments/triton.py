"""Prove and measure what ``cunet-deploy export --target triton`` writes on a real Triton server, with real clients.

The server is the one in the package nvidia-pytriton, which has Triton's Python backend and needs numpy 1. So this runs
in an environment of its own::

    python -m venv build/triton
    build/triton/bin/pip install nvidia-pytriton==0.7.0 'tritonclient[all]' 'opencv-python-headless<4.12' .
    cunet-deploy export models/face68-s/checkpoint.pt --target triton -o build/bundle
    build/triton/bin/python -m tools.experiments.triton build/bundle --image PHOTO

It prints what was checked and a table of latencies, and ends with 4 where something is not as it should be. All traffic
stays on this machine. The figures of docs/serving.md are those of ``--requests 10000 --json docs/serving.json`` for
``face68-xs`` with ``--instances 2``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np
from numpy.typing import NDArray

from cunet_deploy import Localizer
from tools.reports import errors_in_a_line, signed, write_report

__all__ = ["main"]

OUTPUTS = ("boxes", "landmarks", "scores", "ids")
CLIENTS = (1, 4, 16)
BURST = 400
"""Requests sent at once: more than the queue holds."""


@contextlib.contextmanager
def running_server(repository: Path, name: str) -> Iterator[tuple[str, str]]:
    """A server with one model; yields its addresses for HTTP and gRPC."""
    import pytriton

    home = Path(pytriton.__file__).parent / "tritonserver"
    libraries = Path(pytriton.__file__).parents[1] / "nvidia_pytriton.libs"
    ports = [_free_port(), _free_port()]
    with tempfile.TemporaryDirectory() as folder:
        backend = Path(shutil.copytree(home / "backends" / "python", Path(folder) / "python"))
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = shutil.copy(home / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
        for program in (Path(stub), home / "bin" / "tritonserver"):
            program.chmod(0o755)
        paths = [sysconfig.get_config_var("LIBDIR"), str(libraries), str(home / "external_libs"), str(home / "lib")]
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join(paths),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # the stub looks for this Python there
        }
        command = [str(home / "bin" / "tritonserver"), f"--model-repository={repository}", "--allow-metrics=false"]
        command += [f"--backend-directory={folder}", "--model-control-mode=explicit", f"--load-model={name}"]
        command += [f"--http-port={ports[0]}", f"--grpc-port={ports[1]}"]
        command += ["--http-address=127.0.0.1", "--grpc-address=127.0.0.1"]
        with (
            (Path(folder) / "log").open("w+") as log,
            subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log) as server,
        ):
            try:
                _wait_until_ready(server, ports[0], name, Path(log.name))
                yield f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}"
            finally:
                server.terminate()
                try:
                    server.wait(30)
                except subprocess.TimeoutExpired:
                    server.kill()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(server: subprocess.Popen[bytes], port: int, name: str, log: Path) -> None:
    import tritonclient.http

    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}")
    for _ in range(240):
        if server.poll() is not None:
            raise click.ClickException(f"the server ended with {server.returncode}:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(Exception):  # nobody listens yet
            if client.is_model_ready(name):
                return
        time.sleep(0.5)
    raise click.ClickException(f"the server was not ready in two minutes:\n{log.read_text()[-3000:]}")


def inputs(protocol: Any, **sent: Any) -> list[Any]:
    """The inputs of a request; ``protocol`` is tritonclient.http or tritonclient.grpc."""
    made = []
    for name, value in sent.items():
        values = np.array([value], object) if isinstance(value, bytes) else value
        kind = {"O": "BYTES", "u": "UINT8", "f": "FP32"}[values.dtype.kind]
        item = protocol.InferInput(name, values.shape, kind)
        item.set_data_from_numpy(values)
        made.append(item)
    return made


def check_texts(repository: Path) -> int:
    """Read every text by Triton's own schema; returns how many there are."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    texts = sorted(repository.glob("*/config.pbtxt"))
    for path in texts:
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
        assert config.name == path.parent.name
    return len(texts)


def check_answers(protocol: Any, address: str, name: str, photo: bytes, model: Path) -> None:
    """Landmarks as `Localizer` finds them, and a client's error for everything that is no picture."""
    frame: NDArray[np.uint8] = np.asarray(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_COLOR), np.uint8)
    expected = Localizer(model, threads=1).predict(frame)
    assert len(expected), "nobody is found in the photo; give another one"
    client = protocol.InferenceServerClient(address)
    for sent in ({"image": photo}, {"frame": frame}, {"frame": frame, "boxes": expected.boxes}):
        answer = client.infer(name, inputs(protocol, **sent))
        found = {key: answer.as_numpy(key) for key in OUTPUTS}
        np.testing.assert_array_equal(found["landmarks"], expected.points)
        np.testing.assert_array_equal(found["scores"], expected.scores)
    bomb = cv2.imencode(".png", np.zeros((10_000, 10_000), np.uint8))[1].tobytes()
    nothing = np.zeros((1, 4), np.float32)
    refused: tuple[dict[str, Any], ...] = (
        {"image": b"garbage"},
        {"image": b""},
        {"image": photo[: len(photo) // 2]},
        {"image": bomb},
        {},
        {"image": photo, "frame": frame},
        {"frame": frame, "boxes": nothing},
        {"frame": frame[0]},
        {"frame": frame.astype(np.float32)},
    )
    statuses = [_status(client, protocol, name, sent) for sent in refused]
    assert set(statuses) <= {"400", "StatusCode.INVALID_ARGUMENT"}, statuses


def _status(client: Any, protocol: Any, name: str, sent: dict[str, Any]) -> str:
    """Answer to a request that must fail."""
    from tritonclient.utils import InferenceServerException

    try:
        client.infer(name, inputs(protocol, **sent))
    except InferenceServerException as error:
        return str(error.status())
    return "taken"


def measure(address: str, name: str, photo: bytes, clients: int, requests: int) -> dict[str, Any]:
    """Latency of about so many requests by so many clients at once, in milliseconds; each sends one at least."""
    import tritonclient.grpc as protocol
    from tritonclient.utils import InferenceServerException

    seconds: list[float] = []
    failures: list[str] = []

    def work(count: int) -> None:
        client, sent = protocol.InferenceServerClient(address), inputs(protocol, image=photo)
        for _ in range(count):
            start = time.perf_counter()
            try:
                client.infer(name, sent)
            except InferenceServerException as error:
                failures.append(str(error))
            else:
                seconds.append(time.perf_counter() - start)

    each = max(requests // clients, 1)
    threads = [threading.Thread(target=work, args=(each,)) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = time.perf_counter() - start
    assert seconds, f"none of {clients} clients was answered: {failures[0] if failures else 'they failed'}"
    quantiles = {f"p{share}_ms": round(1000 * float(np.percentile(seconds, share)), 1) for share in (50, 90, 99)}
    rate = round(len(seconds) / whole, 1)
    refused = sum(is_refusal(text) for text in failures)
    counts = {
        "answered": len(seconds),
        "refused": refused,
        "lost": each * clients - len(seconds) - refused,
    }
    return {"clients": clients, **counts, "per_second": rate, **quantiles}


def is_refusal(text: str) -> bool:
    """Return whether an error says that the server has too much to do."""
    return "maximum queue size" in text or "timeout expired" in text.lower()


def overload(address: str, name: str, photo: bytes) -> dict[str, int]:
    """Send `BURST` requests at once: each is answered or refused, and none waits for ever."""
    import tritonclient.grpc as protocol

    client, sent = protocol.InferenceServerClient(address), inputs(protocol, image=photo)
    said: list[str] = []
    ready = threading.Semaphore(0)

    def receive(result: Any, error: Any) -> None:
        said.append("" if error is None else str(error))
        ready.release()

    for _ in range(BURST):
        client.async_infer(name, sent, receive)
    for _ in range(BURST):
        assert ready.acquire(timeout=120), "a request was never answered"
    refused = [text for text in said if text]
    strange = [text for text in refused if not is_refusal(text)]
    assert refused, "an overloaded server refused nothing"
    assert not strange, strange[0]
    return {"sent": BURST, "answered": BURST - len(refused), "refused": len(refused)}


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--image", required=True, type=click.Path(exists=True, path_type=Path), help="A photo of somebody.")
@click.option("--clients", "counts", multiple=True, default=CLIENTS, show_default=True, type=click.IntRange(1))
@click.option(
    "--requests",
    default=400,
    show_default=True,
    type=click.IntRange(1),
    help="Requests of the most clients; fewer clients send a tenth of them.",
)
@click.option("--note", default="", help="What else the machine did meanwhile.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the numbers here.")
@errors_in_a_line
def main(bundle: Path, image: Path, counts: tuple[int, ...], requests: int, note: str, json_path: Path | None) -> None:
    """Serve the model repository of BUNDLE and ask it."""
    import tritonclient.grpc
    import tritonclient.http

    repository, photo = (bundle / "triton").resolve(), image.read_bytes()
    served = json.loads((bundle / "manifest.json").read_text())["triton"]
    name = served["models"][0]
    try:
        click.echo(f"{check_texts(repository)} texts fit Triton's schema")
        with running_server(repository, name) as (http, grpc):
            for protocol, address in ((tritonclient.http, http), (tritonclient.grpc, grpc)):
                check_answers(protocol, address, name, photo, bundle)
                click.echo(f"{protocol.__name__}: landmarks bit for bit; what is no picture is the client's error")
            rows = [
                measure(grpc, name, photo, clients, requests if clients == max(counts) else requests // 10)
                for clients in counts
            ]
            burst = overload(grpc, name, photo)
        assert not any(row["lost"] for row in rows), "requests were lost"
    except AssertionError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(4)
    for row in rows:
        click.echo("  ".join(f"{key} {value}" for key, value in row.items()))
    click.echo(f"burst: {burst}")
    about = {"model": name, "instances": served["instances"], "note": note, "rows": rows, "burst": burst}
    write_report(json_path, signed(about, "nvidia-pytriton"))


if __name__ == "__main__":
    main()
