"""``cunet-deploy models``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from cunet_deploy.cli._options import json_option, overwrite_option
from cunet_deploy.cli._report import json_report, results
from cunet_deploy.errors import ArtifactError
from cunet_deploy.runtime.sessions import open_session
from cunet_deploy.zoo import DEFAULT_MODEL, find_model, released_models

__all__ = ["command"]


@click.command("models")
@json_option
@overwrite_option
def command(json_path: Path | None, overwrite: bool) -> None:
    """List the released models that come with this installation.

    \b
    Example:
      cunet-deploy models --json models.json
    """
    with json_report(json_path, overwrite=overwrite) as write:
        rows = [_describe(name) for name in released_models()]
        write({"models": rows})
    if not rows:
        results().print(
            "no released models in this installation; reinstall it: pip install --force-reinstall cunet-deploy"
        )
        return
    table = Table()
    table.add_column("model")
    for column in ("landmarks", "input", "bits", "MB", "accuracy"):
        table.add_column(column, justify="right")
    table.add_column("licence")
    for row in rows:
        table.add_row(
            f"{row['name']} (default)" if row["name"] == DEFAULT_MODEL else row["name"],
            "boxes" if row["task"] == "boxes" else f"{row['landmarks']} ({row['skeleton']})",
            f"{row['input_pixels']} px",
            str(row["weight_bits"]),
            f"{row['file_bytes'] / 1e6:.3f}",
            _shown(row),
            row["licence"],
        )
    results().print(table)


def _describe(name: str) -> dict[str, Any]:
    path = find_model(name)
    session = open_session(path, threads=1)
    manifest = session.manifest
    session.close()
    return {
        "name": name,
        "path": str(path),
        "task": "landmarks" if manifest.boxes is None else "boxes",
        "skeleton": manifest.skeleton.name,
        "landmarks": len(manifest.skeleton),
        "input_pixels": manifest.crop.size,
        "weight_bits": manifest.weight_bits,
        "activation_bits": manifest.activation_bits,
        "file_bytes": path.stat().st_size,
        "licence": manifest.licence,
        **_accuracy(path.with_name("numbers.json")),
    }


def _shown(row: dict[str, Any]) -> str:
    """The main number of a model."""
    if "nme_percent" in row:
        return f"NME {row['nme_percent']['value']:.2f} % ({row['nme_dataset']})"
    if "recall_percent" in row:
        return f"recall {row['recall_percent']['value']:.1f} %, precision {row['precision_percent']['value']:.1f} %"
    return "-"


def _accuracy(path: Path) -> dict[str, Any]:
    """NME of the released file, with the data set, where a file of measured numbers stands beside it."""
    if not path.is_file():
        return {}
    try:
        numbers = json.loads(path.read_text(encoding="utf-8"))
        accuracy = numbers["accuracy"]
        if numbers.get("task") == "boxes":
            found = {key: accuracy["released"][key] for key in ("recall_percent", "precision_percent", "ap_percent")}
            return {**found, "dataset": accuracy["dataset"]}
        normalizer = accuracy["normalizer"]
        return {
            "nme_percent": accuracy["released"][f"nme_{normalizer}_percent"],
            "nme_normalizer": normalizer,
            "nme_dataset": accuracy["dataset"],
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{path}: is damaged ({error!r}); remove it or reinstall the package") from error
