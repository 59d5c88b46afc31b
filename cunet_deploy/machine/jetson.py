"""NVIDIA Jetson boards: which JetPack is installed, what it brings, and what follows for this package.

Everything is read from files below a root folder, so it can be asked about any system.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["JETPACKS", "JetPack", "Jetson", "read_jetson"]

_VENV = "python{python} -m venv --system-site-packages .venv"


@dataclass(frozen=True)
class JetPack:
    """Contents of a line of JetPack releases.

    Attributes:
        name: the releases.
        since: the first of them, as numbers.
        l4t: first L4T release of them, as numbers.
        tensorrt: its version.
        cuda: its version.
        python: the one that its TensorRT module is built for.
        dla: what the deep learning accelerators can do.
    """

    name: str
    since: tuple[int, ...]
    l4t: tuple[int, ...]
    tensorrt: str
    cuda: str
    python: str
    dla: str


_OLD_DLA = "DLA takes no Q/DQ graph in this TensorRT: float16 only, fixed shapes, at most 16 loadables"
_NO_DLA = "TensorRT of this release has no DLA"

JETPACKS = (
    JetPack("5", (5, 0), (34, 0), "8.5", "11.4", "3.8", _OLD_DLA),
    JetPack("6.0", (6, 0), (36, 0), "8.6", "12.2", "3.10", _OLD_DLA),
    JetPack("6.1 and 6.2", (6, 1), (36, 4), "10.3", "12.6", "3.10", _OLD_DLA),
    JetPack("7.0 and 7.1", (7, 0), (38, 0), "10.13", "13.0", "3.12", _NO_DLA),
    JetPack("7.2", (7, 2), (39, 0), "10.16", "13.2", "3.12", _NO_DLA),
    JetPack(
        "7.2.2 and later",
        (7, 2, 2),
        (999, 0),  # its L4T release is not known here; the package nvidia-jetpack tells
        "11.4",
        "13.2",
        "3.12",
        "DLA on AGX Orin only (not Thor), strongly typed graphs of fixed shape; not tried with Q/DQ",
    ),
)
"""In order. Versions of JetPack 5 and 6.0, and the L4T release of 7.2, are from memory, not from a device."""


@dataclass(frozen=True)
class Jetson:
    """A board as it is installed.

    Attributes:
        board: its name; empty where the device tree does not tell.
        l4t: release of Linux for Tegra, "36.4.3"; empty where unknown.
        jetpack: version of the package nvidia-jetpack, "6.2"; empty where it is not installed.
        tensorrt: version of the installed libnvinfer; empty where it is not.
        release: what that JetPack brings; ``None`` for one that is older than all known.
    """

    board: str
    l4t: str
    jetpack: str
    tensorrt: str
    release: JetPack | None

    def advice(self, python: str) -> list[str]:
        """Advice for this board, one sentence each.

        Args:
            python: version of the interpreter that runs, "3.10".
        """
        release = self.release
        if release is None:
            return ["this JetPack is too old: install JetPack 6 or later"]
        if release.since < (6,):
            return [
                "JetPack 5 has TensorRT for Python 3.8 only, and this package needs 3.10: install JetPack 6 or later, "
                "or run .onnx models on the CPU with a Python of your own"
            ]
        lines = []
        if python != release.python:
            lines.append(
                f"TensorRT of JetPack {release.name} is built for Python {release.python} and this is {python}: "
                f"{_VENV.format(python=release.python)}"
            )
        else:
            lines.append(
                f"TensorRT and OpenCV come with JetPack; let the environment see them: "
                f"{_VENV.format(python=release.python)}"
            )
        major = release.cuda.partition(".")[0]
        lines += [
            "keep JetPack's OpenCV, which has GStreamer and needs NumPy 1: in the clone pip install --no-deps ., then "
            "pip install av click msgspec 'numpy<2' onnx onnxruntime protobuf rich tomli",
            "GPU memory: PATH=/usr/local/cuda/bin:$PATH pip install pycuda (it is compiled here), or "
            f"pip install 'cuda-bindings=={major}.*' (a wheel)",
            "PyPI's tensorrt and onnxruntime-gpu are for servers; on a Jetson use JetPack's TensorRT",
            "full speed: sudo nvpmodel -q shows the power mode; sudo nvpmodel -m 0, then sudo jetson_clocks",
            release.dla,
        ]
        return lines


def read_jetson(root: Path = Path("/")) -> Jetson | None:
    """The board whose system is below ``root``; ``None`` where that is no Jetson."""
    release = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release"))
    packages = _packages(_text(root / "var/lib/dpkg/status"))
    l4t = f"{release[1]}.{release[2]}" if release else packages.get("nvidia-l4t-core", "").partition("-")[0]
    jetpack = re.split(r"[+~-]", packages.get("nvidia-jetpack", ""))[0]
    if not l4t and not jetpack:
        return None
    board = _text(root / "proc/device-tree/model").strip("\0 \n")
    nvinfer = [version for name, version in packages.items() if name.startswith("libnvinfer")]
    tensorrt = re.split(r"[+-]", max(nvinfer, key=_numbers))[0] if nvinfer else ""
    return Jetson(board, l4t, jetpack, tensorrt, _release(_numbers(jetpack), _numbers(l4t)))


def _release(jetpack: tuple[int, ...], l4t: tuple[int, ...]) -> JetPack | None:
    """The last line of releases that begins at or before this one."""
    if jetpack:
        fitting = [known for known in JETPACKS if known.since <= jetpack]
    else:
        fitting = [known for known in JETPACKS if known.l4t <= l4t]
    return fitting[-1] if fitting else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _packages(status: str) -> dict[str, str]:
    """Names and versions of the installed packages that matter, from dpkg's list."""
    found = {}
    for stanza in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Version|Status): (.*)$", stanza, re.MULTILINE))
        wanted = re.fullmatch(r"nvidia-jetpack|nvidia-l4t-core|libnvinfer\d+", fields.get("Package", ""))
        if wanted and fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields.get("Version", "")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
