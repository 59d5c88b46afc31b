"""What stands beside an engine: which model it is, what it was built with, and where it runs.

An engine is native code and nothing may be put in front of it, so its manifest is a file of its own: ``NAME.engine`` is
described by ``NAME.engine.json``. An engine whose checksum is not the one written there is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cunet_deploy._files import file_sha256, write_text_atomic
from cunet_deploy.errors import ArtifactError, InputError, UntrustedError
from cunet_deploy.manifest import Manifest
from cunet_deploy.tensorrt.flavour import FLAVOURS

__all__ = ["FORMAT", "PORTABLE", "EngineManifest", "build_command", "sidecar_path"]

FORMAT = 1

PORTABLE = "portable"
"""The flag of an engine that runs on its compute capability and on every later one."""


def sidecar_path(engine: str | Path) -> Path:
    """``NAME.engine`` to ``NAME.engine.json``."""
    path = Path(engine)
    return path.with_name(path.name + ".json")


def build_command(engine: str | Path, name: str = "") -> str:
    """The line that builds an engine again, with its bundle where that lies there: its folder, or the one called so.

    Args:
        engine: the file, which need not exist.
        name: of the model.
    """
    folder = Path(engine).parent
    for place in (folder, folder / name):
        if any((place / model).is_file() for model in ("model.tensorrt.onnx", "model.onnx")):
            return f"cunet-deploy build {shlex.quote(str(place))}"
    return "cunet-deploy build BUNDLE"


@dataclass(frozen=True)
class EngineManifest:
    """The description of an engine.

    Attributes:
        manifest: of the model, see `cunet_deploy.manifest.Manifest`; `model` reads it.
        engine_sha256: of the engine file.
        onnx_sha256: of the ONNX file that it was built from.
        flavour: "tensorrt" or "tensorrt_rtx".
        version: of the library that built it, for example "10.3.0".
        compute_capabilities: GPUs that it was built for, 87 for 8.7; empty only where the builder could not tell.
        driver: of the GPU when it was built; ``None`` without a driver.
        cuda: version of CUDA when it was built; ``None`` where it is not known.
        profiles: for each optimization profile the shapes of each input: ``{"image": {"min": [..], "opt": [..],
            "max": [..]}}``.
        flags: how it was built, for example "strongly_typed"; `PORTABLE` means later GPUs run it too.
        layers: the layer report, see `cunet_deploy.tensorrt.layers.LayerReport.to_dict`.
    """

    manifest: dict[str, Any]
    engine_sha256: str
    onnx_sha256: str
    flavour: str
    version: str
    compute_capabilities: tuple[int, ...]
    driver: str | None
    cuda: str | None
    profiles: tuple[dict[str, dict[str, list[int]]], ...]
    flags: tuple[str, ...]
    layers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise InputError(f"flavour must be one of {', '.join(FLAVOURS)}; got {self.flavour!r}")
        for name in ("engine_sha256", "onnx_sha256"):
            value = getattr(self, name)
            if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
                raise InputError(f"{name} must be 64 hexadecimal digits, got {value!r}")
        if not self.version:
            raise InputError("version must not be empty: an engine runs in the version that built it only")
        if not all(type(value) is int and value >= 10 for value in self.compute_capabilities):
            raise InputError(f"compute capabilities are numbers like 87, got {self.compute_capabilities}")

    @property
    def model(self) -> Manifest:
        """The manifest of the model.

        Raises:
            ArtifactError: it is damaged.
        """
        return Manifest.from_json(json.dumps(self.manifest), "the engine's manifest")

    @property
    def _name(self) -> str:
        """Of the model, also where the rest of its manifest is damaged."""
        return str(self.manifest.get("name", ""))

    def runs_on(self, compute_capability: int) -> bool:
        """Whether a GPU of that compute capability (87 for 8.7) can run the engine."""
        if not self.compute_capabilities or compute_capability in self.compute_capabilities:
            return True
        return PORTABLE in self.flags and compute_capability >= min(self.compute_capabilities)

    def check_checksum(self, engine: str | Path, content: bytes | None = None) -> None:
        """Refuse an engine file that is not the one that was described.

        Args:
            engine: the file.
            content: what was read from it, so that what is checked is what is used; ``None``: read it.

        Raises:
            InputError: the file cannot be read.
            UntrustedError: its checksum differs.
        """
        found = file_sha256(engine) if content is None else hashlib.sha256(content).hexdigest()
        if found != self.engine_sha256:
            raise UntrustedError(
                f"{engine}: refused: its checksum is not the one in {sidecar_path(engine).name}, and an engine is "
                f"native code; build it again: {build_command(engine, self._name)}, or use --trust if you know where "
                "it is from"
            )

    def check_fits(self, engine: str | Path, flavour: str, version: str, compute_capability: int | None) -> None:
        """Refuse an engine that was built for something else than what would run it here.

        Args:
            engine: named in errors.
            flavour: "tensorrt" or "tensorrt_rtx", as installed here.
            version: of it.
            compute_capability: of the GPU here, 87 for 8.7; ``None``: not known, not checked.

        Raises:
            ArtifactError: with the command that builds the right one.
        """
        line = f"{build_command(engine, self._name)} --flavour {flavour}"
        if flavour == "tensorrt_rtx" and compute_capability is not None:
            line += f" --sm {compute_capability}"
        for what, built, here in (("flavour", self.flavour, flavour), ("version", self.version, version)):
            if built != here:
                raise ArtifactError(
                    f"{engine}: was built with {self.flavour} {self.version} but here is {flavour} {version} "
                    f"(another {what}); build it for this machine: {line}"
                )
        if compute_capability is not None and not self.runs_on(compute_capability):
            built = ", ".join(f"SM{value}" for value in self.compute_capabilities)
            raise ArtifactError(
                f"{engine}: was built for {built} but the GPU here is SM{compute_capability}; "
                f"build it for this machine: {line}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON stores them."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], source: str | Path) -> EngineManifest:
        """Read what `to_dict` gave.

        Raises:
            ArtifactError: a key is missing or wrong, or the format is newer.
        """
        try:
            if int(table["format"]) > FORMAT:
                raise ArtifactError(
                    f"{source}: its format {table['format']} is newer than this version reads ({FORMAT}); "
                    "upgrade: pip install -U cunet-deploy"
                )
            made = cls(
                manifest=dict(table["manifest"]),
                engine_sha256=str(table["engine_sha256"]),
                onnx_sha256=str(table["onnx_sha256"]),
                flavour=str(table["flavour"]),
                version=str(table["version"]),
                compute_capabilities=tuple(table["compute_capabilities"]),
                driver=_text_or_none(table["driver"]),
                cuda=_text_or_none(table["cuda"]),
                profiles=tuple(_profile(profile) for profile in table["profiles"]),
                flags=tuple(str(flag) for flag in table["flags"]),
                layers=dict(table["layers"]),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(
                f"{source}: describes no engine ({error!r}); build the engine again: {build_command(source)}"
            ) from error
        Manifest.from_json(json.dumps(made.manifest), source)
        return made

    @classmethod
    def read(cls, engine: str | Path) -> EngineManifest:
        """The description beside an engine. The engine itself is not looked at; see `check_checksum`.

        Raises:
            UntrustedError: there is none.
            ArtifactError: it is damaged or of a newer format.
        """
        path = sidecar_path(engine)
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UntrustedError(
                f"{engine}: refused: {path.name} is not beside it, and an engine is native code; copy both files, "
                f"or build it again: {build_command(engine)}"
            ) from error
        except OSError as error:
            raise ArtifactError(f"{path}: cannot be read ({error.strerror}); copy it again") from error
        except ValueError as error:
            raise ArtifactError(f"{path}: is damaged ({error}); copy it again or build the engine again") from error
        if not isinstance(table, dict):
            raise ArtifactError(f"{path}: describes no engine; copy it again or build the engine again")
        return cls.from_dict(table, path)

    def write(self, engine: str | Path, *, overwrite: bool = False) -> Path:
        """Write the description beside an engine and return its path; see `sidecar_path`."""
        path = sidecar_path(engine)
        write_text_atomic(path, json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n", overwrite=overwrite)
        return path


def _text_or_none(value: Any) -> str | None:
    return None if value is None else str(value)


def _profile(table: Any) -> dict[str, dict[str, list[int]]]:
    return {
        str(name): {kind: [int(size) for size in shapes[kind]] for kind in ("min", "opt", "max")}
        for name, shapes in table.items()
    }
