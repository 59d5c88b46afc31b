"""Progress of a long measurement, in a file, mostly beside its output: the same command continues from there."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cunet_deploy._arrays import read_arrays
from cunet_deploy._files import part_path, write_bytes_atomic
from cunet_deploy.errors import InputError

__all__ = ["ResumeFile"]

IDENTITY = "identity"


@dataclass(frozen=True)
class ResumeFile:
    """A file of progress; it is always whole, whenever the program is stopped.

    Attributes:
        path: the file.
        identity: what the progress belongs to, by the word for it in errors, for example ``{"weights": checksum}``.
    """

    path: Path
    identity: Mapping[str, str]

    @classmethod
    def beside(cls, out: Path, **identity: str) -> ResumeFile:
        """The progress of what shall become the file ``out``: ``OUT.partial``."""
        return cls(part_path(out, ".partial"), identity)

    def load(self) -> dict[str, NDArray[np.generic]]:
        """The arrays that were saved last; none where there is no such file.

        Raises:
            InputError: the file is damaged or belongs to something else.
        """
        try:
            arrays: dict[str, NDArray[np.generic]] = {**read_arrays(self.path)}
            identity = json.loads(str(arrays.pop(IDENTITY)))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, RecursionError) as error:
            raise InputError(
                f"{self.path}: is damaged or is no progress of this command; delete it to begin"
            ) from error
        for word, value in self.identity.items():
            if not isinstance(identity, dict) or identity.get(word) != value:
                raise InputError(
                    f"{self.path}: holds the progress of a run with other {word}; repeat that command to finish it, or "
                    "delete the file to begin anew"
                )
        return arrays

    def save(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace what was saved before."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, values in {**arrays, IDENTITY: np.array(json.dumps(dict(self.identity)))}.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, np.asanyarray(values), allow_pickle=False)
        write_bytes_atomic(self.path, buffer.getvalue(), overwrite=True)

    def remove(self) -> None:
        """The work is done."""
        self.path.unlink(missing_ok=True)
