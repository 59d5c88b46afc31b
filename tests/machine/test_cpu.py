from __future__ import annotations

import pytest

from cunet_deploy.machine.cpu import cpu_features, cpu_name, may_saturate
from cunet_deploy.quantize.formats import format_of

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


@pytest.mark.parametrize(
    ("features", "architecture", "expected"),
    [
        pytest.param(["avx2", "fma"], "x86_64", True, id="AVX2 alone"),
        pytest.param(["avx2", "fma", "avx512f"], "AMD64", True, id="AVX-512 without VNNI"),
        pytest.param(["avx2", "fma", "avx_vnni"], "x86_64", False, id="AVX-VNNI"),
        pytest.param(["avx2", "avx512f", "avx512_vnni"], "x86_64", False, id="AVX-512 VNNI"),
        pytest.param(["avx2", "avx512f", "amx_int8"], "x86_64", False, id="AMX"),
        pytest.param(["asimd"], "aarch64", False, id="Arm without dot product"),
        pytest.param([], "x86_64", False, id="not known"),
    ],
)
def test_bytes_may_saturate_on_x86_without_vnni_only(features: list[str], architecture: str, expected: bool) -> None:
    assert may_saturate(features, architecture) is expected


def test_two_products_with_weights_of_7_bits_fit_into_16_and_with_8_bits_do_not() -> None:
    largest = 2**15 - 1
    assert 2 * 255 * format_of("7").high <= largest < 2 * 255 * format_of("8").high
