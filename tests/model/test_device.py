"""One place decides where PyTorch runs, and says what is missing."""

from __future__ import annotations

import warnings

import pytest
import torch

from cunet_deploy.errors import ArtifactError, InputError, MissingDependencyError
from cunet_deploy.model.device import CPU, autocast, choose_device, describe_device, float32_multiplications


class Machine:
    """A machine with GPUs, as PyTorch tells of it."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, gpus: int = 0, *, built: bool = True, mps: bool = False
    ) -> None:
        self.works, self.warning = True, ""
        monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: built)
        monkeypatch.setattr(torch.backends.mps, "is_built", lambda: mps)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(torch.cuda, "is_available", self._available)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch, "ones", self._ones)
        self._gpus, self._made = gpus, torch.ones
        for name in ("LOCAL_RANK", "LOCAL_WORLD_SIZE"):
            monkeypatch.delenv(name, raising=False)

    def _available(self) -> bool:
        if self.warning:
            warnings.warn(self.warning, stacklevel=2)
        return self._gpus > 0

    def _ones(self, *size: int, device: torch.device) -> torch.Tensor:
        if not self.works:
            raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore lines")
        return torch.full(size, 1.0)


def test_auto_takes_a_gpu_that_works_and_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, 2)
    assert choose_device("auto") == torch.device("cuda", 0)
    broken = Machine(monkeypatch, 1)
    broken.works = False
    assert choose_device("auto") == CPU
    Machine(monkeypatch, 0, mps=True)
    assert choose_device("auto") == torch.device("mps")
    Machine(monkeypatch, 0)
    assert choose_device("auto") == CPU


def test_a_cpu_is_taken_whatever_gpus_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, 2)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "cuda:x", "meta", ""])
def test_an_unknown_name_is_wrong_usage(name: str) -> None:
    with pytest.raises(InputError, match=r"expected auto\|cpu\|cuda\|cuda:N\|mps"):
        choose_device(name)


def test_what_is_missing_is_said_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, 0, built=False)
    for name, what in (("cuda", "NVIDIA"), ("mps", "Apple")):
        with pytest.raises(MissingDependencyError, match=f"not built for {what} GPUs; run: pip install"):
            choose_device(name)
    old = Machine(monkeypatch, 0)
    old.warning = "The NVIDIA driver on your system is too old (found version 11040).\nPlease update"
    with pytest.raises(ArtifactError, match=r"finds no GPU here \(The NVIDIA driver .* too old .*\); check nvidia-smi"):
        choose_device("cuda")
    Machine(monkeypatch, 2)
    with pytest.raises(ArtifactError, match=r"this machine has 2 GPU\(s\), counted from 0; choose another"):
        choose_device("cuda:2")
    broken = Machine(monkeypatch, 1)
    broken.works = False
    with pytest.raises(ArtifactError, match="no kernel image") as caught:
        choose_device("cuda")
    assert "\n" not in str(caught.value)


def test_each_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, 2)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    found = []
    for rank in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        found += [choose_device("auto"), choose_device("cuda")]
    assert [device.index for device in found] == [0, 0, 1, 1]
    with pytest.raises(InputError, match="one GPU for 3 processes"):
        choose_device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ArtifactError, match="start no more processes, or choose cpu"):
        choose_device("auto")


def test_the_cpu_is_described_with_its_threads() -> None:
    assert describe_device(CPU).startswith("cpu (")


def test_low_precision_is_for_devices_that_have_it() -> None:
    with autocast(CPU, "bfloat16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    for device, precision in ((CPU, "float32"), (torch.device("meta"), "bfloat16")):
        with autocast(device, precision):  # type: ignore[arg-type]
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32


def test_the_rule_of_multiplications_is_restored() -> None:
    def rules() -> list[str]:
        return [torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision]  # type: ignore[attr-defined]

    before = rules()
    for rule in ("ieee", "tf32"):
        with float32_multiplications(rule):
            assert rules() == [rule, rule]
        assert rules() == before


def test_an_older_pytorch_is_told_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        allow_tf32 = True

    old = Old()
    monkeypatch.setattr(torch.backends.cuda, "matmul", old)
    with float32_multiplications("ieee"):
        assert not old.allow_tf32
    assert old.allow_tf32


def tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to the 11 significant bits that factors have in TF32, half to even."""
    bits = values.view(torch.int32)
    return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)


def test_where_products_of_integers_stop_being_exact_on_a_gpu() -> None:
    """Factors of 11 bits hold every integer up to 2048; float32 holds every sum of products up to 2^24."""
    integers = torch.arange(-2048, 2049, dtype=torch.float32)
    assert torch.equal(tf32(integers), integers)
    assert float(tf32(torch.tensor([2049.0]))) != 2049.0
    # 8 bits: activations less their zero point are within 255, weights within 128
    assert 255 * 128 * 514 <= 2**24 < 255 * 128 * 515
    largest = torch.tensor([2.0**24])
    assert float(largest + 1) == 2.0**24
    assert float(torch.tensor([2.0**24 - 1]) + 1) == 2.0**24
