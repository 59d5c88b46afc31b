from __future__ import annotations

import importlib
import inspect
import pkgutil
import re

import pytest

import cunet_deploy

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(cunet_deploy.__path__, "cunet_deploy.")
    if not module.ispkg and not module.name.endswith("__main__")
)


def test_the_package_exports_the_localizer_its_result_and_the_errors() -> None:
    assert cunet_deploy.__all__ == [
        "ArtifactError",
        "ConfigError",
        "CunetError",
        "InputError",
        "Landmarks",
        "Localizer",
        "MissingDependencyError",
        "OneEuro",
        "Tracker",
        "UntrustedError",
        "VerificationError",
        "__version__",
    ]


def test_every_exported_name_is_there_and_listed() -> None:
    for name in cunet_deploy.__all__:
        assert getattr(cunet_deploy, name) is not None
        assert name in dir(cunet_deploy)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Localiser'"):
        _ = cunet_deploy.Localiser


def test_the_version_has_three_numbers() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", cunet_deploy.__version__)


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
