"""Description beside an engine: which model it is, what it was built with, and where it runs.

An engine is native code and nothing may be put in front of it, so its manifest is a file of its own: ``NAME.engine`` is
described by ``NAME.engine.json``. An engine whose checksum is not the one written there is not loaded.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from cunet_deploy._decode import check_fields, decode_json, read_text
from cunet_deploy._files import file_sha256, write_text_atomic
from cunet_deploy.errors import ArtifactError, InputError, UntrustedError
from cunet_deploy.manifest import Manifest
from cunet_deploy.tensorrt.flavour import FLAVOURS

__all__ = ["FORMAT", "PORTABLE", "EngineManifest", "build_command", "sidecar_path"]

FORMAT = 1

PORTABLE = "portable"
"""The flag of an engine that runs on its compute capability and on every later one."""

_SHAPES = ("min", "opt", "max")

Flavour = Annotated[str, Meta(pattern=f"^({'|'.join(FLAVOURS)})$", description=f"one of {', '.join(FLAVOURS)}")]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="64 hexadecimal digits")]
Version = Annotated[str, Meta(min_length=1, description="given: an engine runs in the version that built it only")]
Capabilities = Annotated[tuple[Annotated[int, Meta(ge=10)], ...], Meta(description="numbers like 87")]


@dataclass(frozen=True)
class _Version:
    """The one key that every version reads."""

    format: int


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
    engine_sha256: Sha256
    onnx_sha256: Sha256
    flavour: Flavour
    version: Version
    compute_capabilities: Capabilities
    driver: str | None
    cuda: str | None
    profiles: tuple[dict[str, dict[str, list[int]]], ...]
    flags: tuple[str, ...]
    layers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self, "engine description:", InputError)
        if any(set(shapes) != set(_SHAPES) for profile in self.profiles for shapes in profile.values()):
            raise InputError(f"each input of a profile has shapes for {', '.join(_SHAPES)}, got {self.profiles}")

    @property
    def model(self) -> Manifest:
        """The manifest of the model.

        Raises:
            ArtifactError: it is damaged.
        """
        return Manifest.from_json(json.dumps(self.manifest), "the engine's manifest")

    @property
    def _name(self) -> str:
        """Name of the model, even if the rest of its manifest is damaged."""
        return str(self.manifest.get("name", ""))

    def runs_on(self, compute_capability: int) -> bool:
        """Return whether a GPU of that compute capability (87 for 8.7) can run the engine."""
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
                f"native code; build it again: {build_command(engine, self._name)}, or trust it if you know where "
                "it is from",
                option="trust",
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
    def read(cls, engine: str | Path) -> EngineManifest:
        """The description beside an engine. The engine itself is not looked at; see `check_checksum`.

        Raises:
            UntrustedError: there is none.
            ArtifactError: it is damaged or of a newer format.
        """
        path = sidecar_path(engine)
        if not path.exists():
            raise UntrustedError(
                f"{engine}: refused: {path.name} is not beside it, and an engine is native code; copy both files, "
                f"or build it again: {build_command(engine)}"
            )
        try:
            text = read_text(path, "the description of an engine", InputError)
            version = decode_json(text, _Version).format
            if version > FORMAT:
                raise ArtifactError(
                    f"{path}: its format {version} is newer than this version reads ({FORMAT}); "
                    "upgrade, in the clone: git pull && pip install ."
                )
            made = decode_json(text, cls)
        except InputError as error:
            raise ArtifactError(
                f"{path}: describes no engine ({error}); copy it again or build the engine again: "
                f"{build_command(engine)}"
            ) from error
        Manifest.from_json(json.dumps(made.manifest), path)
        return made

    def write(self, engine: str | Path, *, overwrite: bool = False) -> Path:
        """Write the description beside an engine and return its path; see `sidecar_path`."""
        path = sidecar_path(engine)
        write_text_atomic(path, json.dumps(self.to_dict(), indent=1, sort_keys=True) + "\n", overwrite=overwrite)
        return path
