from __future__ import annotations

import platform

from cunet_deploy.bench.hardware import available_cpus, cpu_features, cpu_name, describe_machine, describe_versions

SERVER = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
flags\t\t: fpu sse avx2 fma avx512f avx512_vnni avx512_bf16 hypervisor

processor\t: 1
model name\t: another
flags\t\t: fpu amx_int8
"""
BOARD = "processor\t: 0\nFeatures\t: fp asimd asimddp crc32\nCPU implementer\t: 0x41\n\nprocessor\t: 1\n"


def test_the_first_processor_is_named_with_its_family_and_model() -> None:
    assert cpu_name(SERVER) == "AMD EPYC (family 25, model 17)"


def test_only_instruction_sets_that_matter_are_listed() -> None:
    assert cpu_features(SERVER) == ["avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16"]


def test_an_arm_processor_tells_its_features_but_no_name() -> None:
    assert cpu_features(BOARD) == ["asimd", "asimddp"]
    assert cpu_name(BOARD) == ""


def test_a_system_without_cpuinfo_has_no_known_instruction_sets() -> None:
    assert (cpu_features(""), cpu_name("")) == ([], "")


def test_this_machine_is_described_without_empty_entries() -> None:
    found = describe_machine()
    assert found["architecture"] == platform.machine()
    assert found["cpus"] == available_cpus() >= 1
    assert found["processor"]
    assert not [key for key, value in found.items() if value in (None, "", [])]


def test_versions_name_what_is_installed_and_leave_out_what_is_not() -> None:
    found = describe_versions("click", "no-such-package-of-ours")
    assert found["python"] == platform.python_version()
    assert {"cunet_deploy", "numpy", "opencv", "click"} <= set(found)
    assert "no-such-package-of-ours" not in found
