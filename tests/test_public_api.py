from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import cunet_deploy

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(cunet_deploy.__path__, "cunet_deploy.")
    if not module.ispkg and not module.name.endswith("__main__")
)


def test_the_package_exports_what_a_user_needs() -> None:
    """The list is written out: a name that goes, or comes, is a decision."""
    assert cunet_deploy.__all__ == [
        "ArtifactError",
        "Cadence",
        "ConfigError",
        "CunetError",
        "Detector",
        "Frame",
        "InputError",
        "Landmarks",
        "Localizer",
        "Manifest",
        "MissingDependencyError",
        "OneEuro",
        "Picture",
        "Plan",
        "Session",
        "Skeleton",
        "Smoothing",
        "Track",
        "Tracker",
        "UntrustedError",
        "VerificationError",
        "VideoState",
        "VideoStep",
        "__version__",
    ]


RECEIVED = {"Manifest", "VideoState"}
"""Types that users are given and never make themselves."""
ERRORS = {name for name in cunet_deploy.__all__ if name.endswith("Error")}


@pytest.mark.parametrize("name", [name for name in cunet_deploy.__all__ if name not in {*ERRORS, "__version__"}])
def test_every_type_of_ours_that_a_public_signature_takes_is_exported(name: str) -> None:
    exported = getattr(cunet_deploy, name)
    members = [
        value
        for key, value in vars(exported).items()
        if not key.startswith("_") or (key == "__init__" and name not in RECEIVED)
    ]
    functions = [member.fget if isinstance(member, property) else member for member in members]
    taken: set[str] = set()
    for function in functions:
        unbound = getattr(function, "__func__", function)
        if inspect.isfunction(unbound):
            for parameter in inspect.signature(unbound).parameters.values():
                taken |= ours_in(str(parameter.annotation), sys.modules[unbound.__module__])
    assert taken <= set(cunet_deploy.__all__)


def ours_in(annotation: str, module: ModuleType) -> set[str]:
    """Names in an annotation that are classes of this package."""
    found = {word: getattr(module, word, None) for word in re.findall(r"[A-Z]\w+", annotation)}
    return {
        word for word, value in found.items() if inspect.isclass(value) and value.__module__.startswith("cunet_deploy")
    }


def test_every_exported_name_is_there_and_listed() -> None:
    for name in cunet_deploy.__all__:
        assert getattr(cunet_deploy, name) is not None
        assert name in dir(cunet_deploy)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Localiser'"):
        _ = cunet_deploy.Localiser


def test_the_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", cunet_deploy.__version__)


@pytest.mark.parametrize("name", [name for name in cunet_deploy.__all__ if name not in {*ERRORS, "__version__"}])
def test_every_exported_type_is_on_the_page_of_the_interface(name: str) -> None:
    exported = getattr(cunet_deploy, name)
    page = (Path(__file__).resolve().parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    assert f"::: {exported.__module__}.{name}\n" in page


@pytest.mark.parametrize("name", MODULES)
def test_all_of_a_module_names_what_it_defines(name: str) -> None:
    module = importlib.import_module(name)
    public = set(module.__all__)
    assert all(hasattr(module, item) for item in public)
    defined = {
        item
        for item, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == name
        and not item.startswith("_")
    }
    assert defined <= public
