"""The static check against what TensorRT for RTX builds, on a table of small graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
from patterns import PATTERNS
from rtx import compile_all, need_rtx

from cunet_deploy.tensorrt.lint import check_model

DISAGREEMENTS = {
    "float16 carriers, operator set 17": "it breaks the ONNX standard; this parser does not mind, others may",
    "activation in uint8 from 0": "it builds, but 128 to 255 are read as other numbers",
    "activation without zero point": "it builds, but the file means uint8, as above",
    "activation scale infinite": "it builds and computes nothing that is of use",
    "pair of two scales": "it builds, but the values change by the ratio of the scales",
    "zero point computed by Cast": "this builder folds it; the parsers' source asks for a stored one",
    "scale computed from constants": "this builder folds it; one computed from data crashes it",
    "weights computed from the input": "convolutions of two activations are no case of ours; counted as float",
    "Pad behind the pair": "this builder moves it, which holds for padding with zero only; counted as float",
}
"""Differences between check and builder on purpose: the check is the stricter of the two."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    need_rtx()
    return compile_all(
        {name: make() for name, make in PATTERNS.items()}, tmp_path_factory.mktemp("patterns"), free_batch=True
    )


def outcome(result: object) -> object:
    """Convolutions in int8, or "rejected"."""
    return "rejected" if result == "crash" or "error" in result else result["int8"]  # type: ignore[index, operator]


def test_the_table_has_at_least_sixty_graphs() -> None:
    assert len(PATTERNS) >= 60
    assert set(DISAGREEMENTS) <= set(PATTERNS)


@pytest.mark.parametrize("name", PATTERNS)
def test_the_check_says_what_is_built(name: str, built: dict[str, object]) -> None:
    report = check_model(PATTERNS[name]())
    predicted: object = "rejected" if report.errors else report.int8
    found = outcome(built[name])
    if name in DISAGREEMENTS:
        assert predicted != found, f"they agree now: take {name!r} off the list"
        assert predicted == "rejected" or predicted < found  # type: ignore[operator]
    else:
        assert predicted == found, f"{built[name]}, {[str(finding) for finding in report.findings]}"


def test_a_scale_computed_from_data_crashes_the_parser(built: dict[str, object]) -> None:
    assert built["scale computed from the input"] == "crash"


def test_sm75_runs_nothing_in_int8(tmp_path: Path) -> None:
    need_rtx()
    model = PATTERNS["float16 carriers, operator set 19"]()
    (result,) = compile_all({"chain": model}, tmp_path, (75,)).values()
    assert result == {"int8": 0, "convolutions": 2}
    assert check_model(model, target="sm75", flavour="tensorrt_rtx").int8 == 0
    assert check_model(model, target="sm75", flavour="tensorrt").int8 == 2
