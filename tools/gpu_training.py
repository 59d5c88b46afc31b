"""The training part of `gpu_acceptance.sh`: configurations to try, and what came of them.

python -m tools.gpu_training configs CONFIG.toml EPOCHS FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from cunet_deploy._files import write_text_atomic
from cunet_deploy.config import load_config
from cunet_deploy.errors import CunetError
from tools.experiments.rows import to_toml

__all__ = ["VARIANTS", "main", "results", "write_configs"]

VARIANTS: dict[str, dict[str, Any]] = {
    "cpu": {},
    "float32": {},
    "bfloat16": {"precision": "bfloat16"},
    "float16": {"precision": "float16"},
    "efficient": {"memory_efficient": True},
    "saved8": {"saved_bits": 8},
    "both": {"memory_efficient": True, "saved_bits": 8},
    "compiled": {"compile": True},
    "torchrun": {},
}
"""Changes to ``[train]`` for each run; "cpu" is what the others are compared with."""

_PLAIN = {"precision": "float32", "memory_efficient": False, "saved_bits": 32, "compile": False, "validate_every": 1}
_SAME_LOSS = 0.1
"""Largest distance of the first epoch's loss from the CPU's, as a share of it."""


def write_configs(config: Path, epochs: int, folder: Path) -> list[Path]:
    """One short configuration for each of `VARIANTS`, made of a longer one: ``FOLDER/NAME.toml``.

    Args:
        config: a training configuration.
        epochs: of the float phase; the quantized phase has one.
        folder: where to write.
    """
    table = load_config(config).to_dict()
    written = []
    for name, changes in VARIANTS.items():
        train = {**table["train"], **_PLAIN, "epochs": epochs, "distill": 0.0, **changes}
        quant = {**table["quant"], "epochs": 1, "distill": 0.0, "progressive": [], "layers": {}}
        path = folder / f"{name}.toml"
        write_text_atomic(path, to_toml({**table, "train": train, "quant": quant}), overwrite=True)
        written.append(path)
    return written


def results(folder: Path) -> dict[str, Any]:
    """Collect the results of the runs in ``FOLDER/training``, by name, and how they compare; empty where none ran."""
    runs: dict[str, Any] = {}
    for name in VARIANTS:
        metrics = folder / "training" / name / "metrics.jsonl"
        if not metrics.is_file():
            continue
        rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
        manifest = folder / "training" / f"{name}-bundle" / "manifest.json"
        parity = json.loads(manifest.read_text(encoding="utf-8"))["parity"] if manifest.is_file() else None
        last = [row for row in rows if row["phase"] == "float"][-1]
        runs[name] = {
            "losses": [row["loss"] for row in rows],
            "crops_per_second": last["crops_per_second"],
            "data_wait_fraction": last["data_wait_fraction"],
            "peak_device_bytes": max((row.get("peak_device_bytes", 0) for row in rows), default=0) or None,
            "values_differing_from_integer_arithmetic": (parity or {}).get("values_differing_from_integer_arithmetic"),
        }
    return {"runs": runs, **_compared(runs)} if runs else {}


def _compared(runs: dict[str, Any]) -> dict[str, Any]:
    plain, cpu = runs.get("float32", {}), runs.get("cpu")
    most = plain.get("peak_device_bytes")
    first = {name: run["losses"][0] for name, run in runs.items()}
    return {
        "first_loss_by_the_cpus": {
            name: round(loss / first["cpu"], 4) for name, loss in first.items() if cpu and name != "cpu"
        },
        "losses_agree_with_the_cpu": bool(
            cpu and all(abs(loss / first["cpu"] - 1) < _SAME_LOSS for loss in first.values())
        ),
        "all_exports_are_exact": all(run["values_differing_from_integer_arithmetic"] == 0 for run in runs.values()),
        "peak_memory_saved_percent": {
            name: round(100 * (1 - run["peak_device_bytes"] / most), 1)
            for name, run in runs.items()
            if most and run["peak_device_bytes"] and name != "float32"
        },
    }


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    try:
        match arguments:
            case ["configs", config, epochs, folder]:
                for path in write_configs(Path(config), int(epochs), Path(folder)):
                    print(path)
            case _:
                print(__doc__, file=sys.stderr)
                return 2
    except (CunetError, OSError, ValueError) as error:
        print(f"gpu_training: error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
