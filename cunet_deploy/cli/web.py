"""``cunet-deploy web``."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cunet_deploy.cli._options import licence_option, output_option, overwrite_option

if TYPE_CHECKING:
    from cunet_deploy.web.site import Runtime

__all__ = ["command"]


@click.command("web")
@click.argument("model")
@output_option("DIR", "Folder of the page.", required=True)
@click.option(
    "--detector",
    metavar="MODEL",
    help="The model that finds boxes.  [default: the one that MODEL names, or that is usual]",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "npm", "cdn"]),
    default="auto",
    show_default=True,
    help="Source of onnxruntime-web: copied from npm, or linked with checksums from a content delivery network; "
    "auto copies it where npm works.",
)
@licence_option
@overwrite_option
def command(
    model: str, out: Path, detector: str | None, runtime: Runtime, licence: str | None, overwrite: bool
) -> None:
    """Write a static page that runs MODEL in the browser, on the camera, photos and clips.

    MODEL is a bundle folder, an .onnx file or the name of a released model that finds landmarks. Any static file server
    will do, and no picture leaves the browser. Browsers allow the camera on pages of https:// and localhost only, and
    threads only where the server sends Cross-Origin-Opener-Policy: same-origin and Cross-Origin-Embedder-Policy:
    require-corp.

    \b
    Example:
      cunet-deploy web face68-s -o site
      python -m http.server -d site 8000     # then open http://localhost:8000
    """
    from cunet_deploy.web.site import build_site

    site = build_site(model, out, detector=detector, runtime=runtime, overwrite=overwrite, licence=licence)
    if site.not_from_npm:
        click.echo(f"warning: onnxruntime-web is linked from a CDN: {site.not_from_npm}", err=True)
    click.echo(f"page: {out}, {site.files} files, {site.bytes / 1e6:.1f} MB")
    click.echo(f"next: python -m http.server -d {shlex.quote(str(out))} 8000, then open http://localhost:8000")
    if site.remark:
        click.echo(site.remark)
