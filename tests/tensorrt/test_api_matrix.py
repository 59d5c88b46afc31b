"""Every name of TensorRT that this package uses exists in NVIDIA's own Python bindings, version by version.

The bindings are small wheels that PyPI has for versions that no machine here could run. They import on top of a library
of empty functions, which is compiled here from the symbols that they lack; then all classes are the real ones, and only
calling them does nothing.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_tensorrt import public_names

import cunet_deploy

PACKAGE = Path(cunet_deploy.__file__).parent
SOURCES = (
    "tensorrt/compile.py",
    "tensorrt/flavour.py",
    "tensorrt/build.py",
    "tensorrt/session.py",
    "tensorrt/log.py",
)
HOLDERS = ("tensorrt/compile.py", "tensorrt/session.py")
"""Of them, those that hold objects of TensorRT."""

CLASSES = {
    "creation": "NetworkDefinitionCreationFlag",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "cache": "ITimingCache",
    "runtime": "Runtime",
    "loaded": "ICudaEngine",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
}
"""Names of variables that hold objects of TensorRT, also with an underscore before, and of which class these are.

In `HOLDERS`; ``trt`` is the module itself, everywhere. `test_objects_of_tensorrt_are_called_by_convention` keeps new
names from slipping through.
"""

BY_TEXT = {
    "ParserError.node",
    "ParserError.node_name",
    "ParserError.desc",
    "BuilderFlag.INT8",
    "BuilderFlag.FP16",
    *(f"ILogger.Severity.{name}" for name in ("INTERNAL_ERROR", "ERROR", "WARNING")),
    "DataType.UINT8",
    "DataType.FLOAT",
    "DataType.HALF",
    "TensorIOMode.INPUT",
    "TensorIOMode.OUTPUT",
}
"""Names that are looked up by text, or in an object that a loop gives."""

_STRONG = "NetworkDefinitionCreationFlag.STRONGLY_TYPED"
_PORTABLE = "IBuilderConfig.set_compute_capability"
GUARDS = {
    _STRONG: _STRONG,
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH": f"not {_STRONG}",
    "BuilderFlag.INT8": f"not {_STRONG}",
    "BuilderFlag.FP16": f"not {_STRONG}",
    _PORTABLE: _PORTABLE,
    "IBuilderConfig.num_compute_capabilities": _PORTABLE,
    "ComputeCapability": _PORTABLE,
    "ComputeCapability.__members__": _PORTABLE,
    "ParserError.node_name": "ParserError.node_name",
    "IProgressMonitor": "IProgressMonitor",
    "IBuilderConfig.progress_monitor": "IProgressMonitor",
}
"""Names that are used only where another exists, which the code asks with ``hasattr``."""


@dataclass(frozen=True)
class Bindings:
    """A wheel of NVIDIA's bindings: package, version, the module in it, and the Pythons 3.x that it is built for."""

    package: str
    version: str
    module: str
    pythons: tuple[int, ...]


BINDINGS = (
    Bindings("tensorrt-bindings", "8.6.1", "tensorrt_bindings", (10, 11)),
    Bindings("tensorrt-cu12-bindings", "10.3.0", "tensorrt_bindings", (10, 11, 12)),
    Bindings("tensorrt-cu12-bindings", "10.13.0.35", "tensorrt_bindings", (10, 11, 12, 13)),
    Bindings("tensorrt-cu12-bindings", "10.16.1.11", "tensorrt_bindings", (10, 11, 12, 13)),
    Bindings("tensorrt-cu12-bindings", "11.4.0.106", "tensorrt_bindings", (10, 11, 12, 13)),
    Bindings("tensorrt-rtx-cu12-bindings", "1.7.1.116", "tensorrt_rtx_bindings", (10, 11, 12, 13)),
)

PROBE = """
import importlib, json, sys
module, names = importlib.import_module(sys.argv[1]), json.loads(sys.stdin.read())
def has(name):
    item = module
    for part in name.split("."):
        if not hasattr(item, part):
            return False
        item = getattr(item, part)
    return True
print(json.dumps({"version": module.__version__, "names": [name for name in names if has(name)]}))
"""


def _chain(node: ast.expr) -> list[str]:
    """``a.b.c`` as its parts; empty for anything else."""
    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute) and (before := _chain(node.value)):
        return [*before, node.attr]
    return []


def _name(chain: list[str], source: str) -> str:
    """The dotted name in TensorRT that an expression of the code stands for; empty where it is none."""
    if chain and chain[0] in ("self", "flavour"):
        chain = chain[1:]
    if len(chain) < 2:
        return ""
    if chain[0] == "trt":
        return ".".join(chain[1:])
    known = CLASSES.get(chain[0].removeprefix("_")) if source in HOLDERS else None
    return f"{known}.{chain[1]}" if known else ""


def _nodes() -> Iterator[tuple[str, ast.AST]]:
    for source in SOURCES:
        for node in ast.walk(ast.parse((PACKAGE / source).read_text(encoding="utf-8"))):
            yield source, node


def used_names() -> set[str]:
    """Names of TensorRT that the builder and the runner use."""
    names = {_name(_chain(node), source) for source, node in _nodes() if isinstance(node, ast.Attribute)}
    return {name for name in names if name and not name.endswith(".__init__")} | BY_TEXT


def _stop(reason: str) -> None:
    """Skip at the desk; in CI the check must not be missing."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _install(bindings: Bindings, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--target", str(folder), f"{bindings.package}=={bindings.version}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if result.returncode:
        _stop(f"{bindings.package} {bindings.version} cannot be installed: {result.stderr.strip()[-300:]}")


def _add_dummies(library: Path, folder: Path) -> None:
    """Libraries of empty functions in place of those of NVIDIA that ``library`` needs."""
    symbols = subprocess.run(["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True)
    pattern = r" U ((?:create|get|init)\w*(?:NvInfer|Nv|Plugin|_INTERNAL)\w*|_ZN\d+nv\w+)\s*$"
    functions = sorted(set(re.findall(pattern, symbols.stdout, re.MULTILINE)))
    assert functions, symbols.stdout
    source = folder / "dummy.c"
    source.write_text("".join(f"void *{function}(void) {{ return 0; }}\n" for function in functions))
    needed = subprocess.run(["readelf", "-d", str(library)], capture_output=True, text=True, check=True)
    for name in re.findall(r"NEEDED.*\[(lib(?:nv|tensorrt)[^\]]*)\]", needed.stdout):
        subprocess.run(
            ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)], check=True
        )


@pytest.fixture(scope="module", params=BINDINGS, ids=lambda item: f"{item.package}-{item.version}")
def real_names(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Those of all names in question that one version of the bindings has."""
    bindings: Bindings = request.param
    if sys.version_info[1] not in bindings.pythons:
        pytest.skip(f"NVIDIA built {bindings.version} for Python 3.{bindings.pythons} only")
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the wheels are taken for Linux on x86-64")
    missing = [tool for tool in ("gcc", "nm", "readelf") if shutil.which(tool) is None]
    if missing:
        _stop(f"{', '.join(missing)} not found; the empty library cannot be compiled")
    folder = tmp_path_factory.mktemp("bindings")
    _install(bindings, folder)
    (library,) = (folder / bindings.module).glob("tensorrt*.so")
    _add_dummies(library, folder)
    names = sorted(
        used_names() | public_names() | set(GUARDS) | {guard.removeprefix("not ") for guard in GUARDS.values()}
    )
    result = subprocess.run(
        [sys.executable, "-c", PROBE, bindings.module],
        input=json.dumps(names),
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder), "LD_LIBRARY_PATH": str(folder)},
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["version"].startswith(bindings.version.rpartition(".")[0])
    return set(report["names"])


@pytest.mark.slow
def test_every_name_that_is_used_exists_in_the_real_bindings(real_names: set[str]) -> None:
    def is_used(name: str) -> bool:
        guard = GUARDS.get(name)
        if guard is None:
            return True
        return (guard.removeprefix("not ") in real_names) != guard.startswith("not ")

    assert {name for name in used_names() if is_used(name)} - real_names == set()


@pytest.mark.slow
def test_the_fake_that_tests_run_on_has_no_name_of_its_own(real_names: set[str]) -> None:
    assert public_names() - real_names == set()


@pytest.mark.slow
def test_the_check_would_notice_a_name_that_does_not_exist(real_names: set[str]) -> None:
    assert "ICudaEngine.num_io_tensors" in real_names
    assert "IExecutionContext.execute_async_v4" not in real_names


def test_the_names_are_found_in_the_code() -> None:
    used = used_names()
    assert {
        "Builder.build_serialized_network",
        "IExecutionContext.execute_async_v3",
        "ICudaEngine.get_tensor_profile_shape",
        "OnnxParser.parse",
        "Runtime.deserialize_cuda_engine",
        _PORTABLE,
    } <= used


def test_no_argument_is_given_by_keyword() -> None:
    """Some versions show no names of arguments, and these have changed: position is what all agree on."""
    calls = [(source, node) for source, node in _nodes() if isinstance(node, ast.Call) and node.keywords]
    assert [(source, _chain(node.func)) for source, node in calls if _name(_chain(node.func), source)] == []


def test_guards_are_asked_for_in_the_code_and_guard_what_is_used() -> None:
    asked = {"ParserError.node_name"}  # asked of a variable called error
    for source, node in _nodes():
        if isinstance(node, ast.Call) and _chain(node.func) == ["hasattr"]:
            item, name = node.args
            assert isinstance(name, ast.Constant)
            chain = [*_chain(item), str(name.value)]
            asked.add(_name(chain, source))
    assert {guard.removeprefix("not ") for guard in GUARDS.values()} <= asked
    assert set(GUARDS) <= used_names() | asked


def test_objects_of_tensorrt_are_called_by_convention() -> None:
    """Results of TensorRT's calls go to variables of `CLASSES`, so that their use is seen."""
    made = {
        "create_network": "network",
        "create_builder_config": "config",
        "create_optimization_profile": "profile",
        "create_timing_cache": "cache",
        "deserialize_cuda_engine": "engine",
        "create_execution_context": "context",
        "create_engine_inspector": "inspector",
    }
    for source, node in _nodes():
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Call):
            continue
        method = (_chain(node.value.func) or [""])[-1]
        if method in made:
            target = _chain(node.targets[0])[-1].removeprefix("_")
            assert CLASSES.get(target) == CLASSES[made[method]], f"{source}: {method} goes to {target}"


def test_no_version_is_compared() -> None:
    """Branches ask whether a name exists; a version is only ever shown, or compared to be the same."""
    for source, node in _nodes():
        if isinstance(node, ast.Compare) and any(isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE)) for op in node.ops):
            assert "version" not in ast.unparse(node), f"{source}: {ast.unparse(node)}"
