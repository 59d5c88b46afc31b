"""Optional libraries, imported where they are used. A missing one names the extra that installs it."""

from __future__ import annotations

import importlib
from types import ModuleType

from cunet_deploy.errors import MissingDependencyError

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, or say which extra of this package installs it.

    Raises:
        MissingDependencyError: with the install line.
    """
    top = module.partition(".")[0]
    try:
        found = importlib.import_module(module)
        if found.__spec__ is not None and found.__spec__.origin is None:  # a mere folder of that name
            raise ModuleNotFoundError(name=top)
        return found
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != top:
            raise MissingDependencyError(
                f"{module} is installed but does not load ({error}); reinstall it: pip install 'cunet-deploy[{extra}]'"
            ) from error
        raise MissingDependencyError(f"{top} is not installed; run: pip install 'cunet-deploy[{extra}]'") from error
