"""Measure the score thresholds and the score curve of trained checkpoints again.

    python -m tools.release.scores models/pose14-s/config.toml models/pose14-s/checkpoint.pt models/pose14-s/float.pt \
        --data DATA

``train`` measures them when it ends, on the validation split of its configuration; this does the same to checkpoints
that are there, after a change of the rule or of what the configuration says about the data. The checkpoints are
replaced; export the bundle again afterwards.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import click

from cunet_deploy.checkpoint.storage import load_checkpoint, save_checkpoint
from cunet_deploy.config import load_config
from cunet_deploy.errors import InputError
from cunet_deploy.export.bundle import export_checkpoint
from cunet_deploy.sessions import open_session
from cunet_deploy.train.tasks import load_task
from tools.reports import errors_in_a_line


@click.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder that holds the training data.")
@errors_in_a_line
def main(config: Path, checkpoints: tuple[Path, ...], data: Path) -> None:
    """Measure the scores of CHECKPOINTS on the validation split of CONFIG."""
    settings, found = load_config(config), {path: load_checkpoint(path) for path in checkpoints}
    for path, checkpoint in found.items():
        if checkpoint.config.landmarks != settings.landmarks:
            raise InputError(f"{path}: finds other landmarks than {config}; name the configuration it was trained with")
    task = load_task(settings, data)
    for path, checkpoint in found.items():
        with tempfile.TemporaryDirectory() as folder:
            model = export_checkpoint(checkpoint, Path(folder) / "bundle").path / "model.onnx"
            session = open_session(model, threads=1)
            scores = task.calibrate_scores(session)
            session.close()
        save_checkpoint(replace(checkpoint, scores=scores), path, overwrite=True)
        before = checkpoint.scores
        click.echo(
            f"{path}: min_score {before.min_score} -> {scores.min_score}, "
            f"keep_score {before.keep_score} -> {scores.keep_score}"
        )


if __name__ == "__main__":
    main()
