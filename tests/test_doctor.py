"""``cunet-deploy doctor`` on this machine, and on systems that are only files."""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cunet_deploy import doctor
from cunet_deploy.cli import cli
from cunet_deploy.cli import doctor as doctor_command
from cunet_deploy.machine.gpu import Gpu
from cunet_deploy.machine.jetson import JETPACKS, Jetson, read_jetson
from cunet_deploy.sessions.registry import BACKENDS, Backend

ROOT = Path(__file__).resolve().parent.parent
ORIN = "NVIDIA Jetson Orin Nano Developer Kit\0"


def system(root: Path, *, l4t: str = "", jetpack: str = "", nvinfer: str = "", cpu: str = "asimd asimddp") -> Path:
    """Files as they are on a Jetson; ``l4t`` is "36 4.3"."""
    (root / "etc").mkdir()
    (root / "proc/device-tree").mkdir(parents=True)
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "proc/device-tree/model").write_text(ORIN)
    (root / "proc/cpuinfo").write_text(f"processor : 0\nFeatures : {cpu}\n")
    if l4t:
        major, minor = l4t.split()
        line = f"# R{major} (release), REVISION: {minor}, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: today\n"
        (root / "etc/nv_tegra_release").write_text(line)
    stanzas = ["Package: bash\nStatus: install ok installed\nVersion: 5.1"]
    if jetpack:
        stanzas.append(
            f"Package: nvidia-jetpack\nStatus: install ok installed\nArchitecture: arm64\nVersion: {jetpack}"
        )
    if nvinfer:
        name = f"libnvinfer{nvinfer.partition('.')[0]}"
        stanzas.append(f"Package: {name}\nStatus: install ok installed\nVersion: {nvinfer}")
    (root / "var/lib/dpkg/status").write_text("\n\n".join(stanzas) + "\n")
    return root


@pytest.mark.parametrize(
    ("l4t", "jetpack", "tensorrt", "python"),
    [
        ("35 4.1", "5.1.2-b104", "8.5", "3.8"),
        ("36 3.0", "6.0+b106", "8.6", "3.10"),
        ("36 4.0", "6.1+b123", "10.3", "3.10"),
        ("36 4.3", "6.2+b77", "10.3", "3.10"),
        ("36 4.3", "", "10.3", "3.10"),
        ("36 2.0", "", "8.6", "3.10"),
        ("", "6.2.1+b38", "10.3", "3.10"),
        ("38 2.0", "7.0-b128", "10.13", "3.12"),
        ("", "7.1", "10.13", "3.12"),
        ("", "7.2", "10.16", "3.12"),
        ("", "7.2.2", "11.4", "3.12"),
    ],
)
def test_a_jetpack_is_known_by_its_package_or_by_its_l4t(
    tmp_path: Path, l4t: str, jetpack: str, tensorrt: str, python: str
) -> None:
    jetson = read_jetson(system(tmp_path, l4t=l4t, jetpack=jetpack))
    assert jetson is not None
    assert jetson.release is not None
    assert (jetson.release.tensorrt, jetson.release.python) == (tensorrt, python)
    assert jetson.l4t == l4t.replace(" ", ".")
    assert jetson.board == ORIN.rstrip("\0")


def test_a_machine_without_these_files_is_no_jetson(tmp_path: Path) -> None:
    assert read_jetson(tmp_path) is None
    assert read_jetson(system(tmp_path)) is None


def test_an_older_jetpack_than_all_known_says_so(tmp_path: Path) -> None:
    jetson = read_jetson(system(tmp_path, l4t="32 7.4", jetpack="4.6.4-b39"))
    assert jetson is not None
    assert jetson.release is None
    assert "install JetPack 6" in " ".join(jetson.advice("3.10"))


def test_a_removed_package_does_not_count(tmp_path: Path) -> None:
    root = system(tmp_path, l4t="36 4.3", jetpack="6.2+b77")
    status = root / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("install ok installed\nArch", "deinstall ok config-files\nArch"))
    jetson = read_jetson(root)
    assert jetson is not None
    assert jetson.jetpack == ""


def test_advice_for_the_wrong_python_names_the_venv_that_fits(tmp_path: Path) -> None:
    jetson = read_jetson(system(tmp_path, l4t="36 4.3", jetpack="6.2+b77"))
    assert jetson is not None
    wrong, right = " ".join(jetson.advice("3.12")), " ".join(jetson.advice("3.10"))
    assert "is built for Python 3.10 and this is 3.12" in wrong
    assert "is built for" not in right
    for text in (wrong, right):
        assert "python3.10 -m venv --system-site-packages .venv" in text
        assert "cuda-bindings==12.*" in text
        assert "nvpmodel" in text
        assert "DLA" in text


def test_jetpack_5_is_told_to_upgrade(tmp_path: Path) -> None:
    jetson = read_jetson(system(tmp_path, l4t="35 4.1"))
    assert jetson is not None
    assert jetson.advice("3.10") == [line for line in jetson.advice("3.8") if "Python 3.8 only" in line]


def test_known_jetpacks_stand_in_order() -> None:
    assert [item.since for item in JETPACKS] == sorted(item.since for item in JETPACKS)
    assert [item.l4t for item in JETPACKS] == sorted(item.l4t for item in JETPACKS)


def test_a_jetson_shows_what_it_has_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "local_gpu", lambda: Gpu(87, "12.6", "540.4.0"))
    root = system(tmp_path, l4t="36 4.3", jetpack="6.2+b77", nvinfer="10.3.0.30-1+cuda12.5")
    report = doctor.examine(root)
    checks = {check.name: check for check in report.checks}
    assert "JetPack 6.2" in checks["Jetson"].found
    assert "installed TensorRT 10.3.0.30" in checks["Jetson"].found
    assert checks["NVIDIA driver"].found == "540.4.0, CUDA up to 12.6, GPU SM87"
    assert "asimddp" in checks["processor"].found
    assert checks["processor"].advice == ""
    assert report.hints


def test_a_processor_without_int8_instructions_is_told(tmp_path: Path) -> None:
    report = doctor.examine(system(tmp_path, cpu="asimd"))
    check = next(check for check in report.checks if check.name == "processor")
    assert "little gain" in check.advice
    assert "three quarters" in check.found


@pytest.mark.parametrize(
    ("board", "parts", "features", "found"),
    [
        (
            "Raspberry Pi 5 Model B\0",
            ["0x41/0xd0b"],
            "asimd asimddp",
            "Raspberry Pi 5 Model B: Cortex-A76; asimd, asimddp;",
        ),
        (
            "",
            ["0x41/0xd40"],
            "asimd asimddp i8mm sve",
            "Neoverse-V1; asimd, asimddp, i8mm, sve; i8mm and dot product: ",
        ),
        (
            "rk3399",
            ["0x41/0xd03", "0x41/0xd03", "0x41/0xd08"],
            "asimd",
            "rk3399: Cortex-A53, Cortex-A72; asimd; no dot",
        ),
        ("", ["0x99/0xabc"], "asimd", "Arm processor 0x99/0xabc; asimd; "),
    ],
    ids=["pi 5", "graviton 3", "two kinds", "unknown"],
)
def test_arm_processors_have_names_and_what_8_bits_gain(
    tmp_path: Path, board: str, parts: list[str], features: str, found: str
) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text(board)
    text = ""
    for index, part in enumerate(parts):
        maker, number = part.split("/")
        text += f"processor\t: {index}\nFeatures\t: fp {features}\nCPU implementer\t: {maker}\n"
        text += f"CPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: {number}\nCPU revision\t: 1\n\n"
    (tmp_path / "proc/cpuinfo").write_text(text)
    check = next(check for check in doctor.examine(tmp_path).checks if check.name == "processor")
    assert check.found.startswith(found)
    assert ("third of the instructions" in check.found) == ("asimddp" in features)


def test_without_a_gpu_every_gpu_backend_says_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "local_gpu", lambda: None)
    backends = doctor.examine().backends
    assert list(backends) == list(BACKENDS)
    assert backends["ort:cpu"] == ""
    assert all(backends[name] for name, row in BACKENDS.items() if not row.runs_on_cpu)


def test_a_library_is_shown_as_it_is_or_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    row = BACKENDS["openvino"]

    class Module:
        def __init__(self, missing: str, found: str | Exception) -> None:
            self._missing, self._found = missing, found

        def missing(self, backend: Backend) -> str:
            assert backend is row
            return self._missing

        def describe(self, backend: Backend) -> str:
            if isinstance(self._found, Exception):
                raise self._found
            return self._found

    line = "pip install 'cunet-deploy[openvino]'"
    states = {
        "here": Module("", "2026.4.1, devices CPU, GPU"),
        "missing": Module(f"openvino is not installed; run: {line}", ""),
        "broken": Module("", RuntimeError("no\nplugin")),
    }
    found = {}
    load = Backend.load
    for name, module in states.items():
        monkeypatch.setattr(Backend, "load", lambda self, module=module: module if self is row else load(self))
        report = doctor.examine()
        check = next(check for check in report.checks if check.name == "OpenVINO")
        found[name] = (check.found, check.advice, report.backends["openvino"])
    broken = f"it is installed but does not load (no plugin); {line}"
    assert found == {
        "here": ("2026.4.1, devices CPU, GPU", "", ""),
        "missing": ("", f"openvino is not installed; run: {line}", f"openvino is not installed; run: {line}"),
        "broken": ("", broken, broken),
    }


def test_an_x86_processor_without_vnni_is_told_which_models_are_faster(tmp_path: Path) -> None:
    report = doctor.examine(system(tmp_path, cpu="avx2 fma"))
    advice = next(check.advice for check in report.checks if check.name == "processor")
    assert "little gain" in advice
    assert ("--reduce-range" in advice) == (platform.machine() == "x86_64")


def test_everything_missing_that_can_be_installed_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_installed", lambda package: "")
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "openvino" else real(name))
    monkeypatch.setattr(doctor, "_module", lambda name: ("1.0", "") if name == "onnxruntime" else ("", ""))
    monkeypatch.setattr(doctor, "local_gpu", lambda: None)
    report = doctor.examine()
    missing = [check for check in report.checks if not check.found]
    assert {"TensorRT", "pycuda", "cuda-bindings", "OpenVINO", "PyTorch"} <= {check.name for check in missing}
    assert all(check.advice for check in missing)


def test_a_library_that_does_not_load_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    check = next(check for check in doctor.examine().checks if check.name == "TensorRT")
    assert check.found == ""
    assert "libnvinfer.so.10" in check.advice


def test_the_command_shows_a_table_and_writes_json(tmp_path: Path) -> None:
    file = tmp_path / "machine.json"
    result = CliRunner().invoke(cli, ["doctor", "--json", str(file)])
    assert result.exit_code == 0, result.stderr
    assert "ONNX Runtime" in result.stdout
    assert "ort:cpu           can run" in result.stdout
    report = json.loads(file.read_text())
    assert {check["name"] for check in report["checks"]} >= {"Python", "processor", "TensorRT"}


def test_commands_for_backends_and_boards_are_not_broken_into_lines(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[not here]: {'it needs a driver; ' * 12}run: pip install 'a[b]'"
    doctor_command._print(doctor.Report((), {"dummy": line}, (line,)))
    assert capsys.readouterr().out.splitlines()[-2:] == [f"dummy             cannot run: {line}", f"Jetson: {line}"]


def test_without_onnx_runtime_the_table_comes_with_exit_code_5(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_module", lambda name: ("", ""))
    result = CliRunner().invoke(cli, ["doctor"])
    assert result.exit_code == 5
    assert "TensorRT" in result.stdout
    assert "pip install onnxruntime" in result.stderr


def test_looking_loads_no_pytorch() -> None:
    code = "from cunet_deploy.doctor import examine; examine(); import sys; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_the_lines_for_a_jetson_install_all_but_its_opencv() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.MULTILINE | re.DOTALL)
    assert listed
    names = set(re.findall(r'"([\w-]+)', listed[1])) - {"opencv-python-headless", "tomli"}
    release = JETPACKS[-1]
    advice = "\n".join(Jetson("", "", "", "", release).advice(release.python))
    for text in (advice, (ROOT / "docs" / "jetson.md").read_text(encoding="utf-8")):
        line = re.search(r"^.*(pip install av .*)$", text, re.MULTILINE)
        assert line
        assert names <= set(re.findall(r"[\w-]+", line[1]))
        assert "'numpy<2'" in line[1]
        assert "pip install --no-deps ." in text  # the package is in no registry
