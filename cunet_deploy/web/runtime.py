"""Runtime of the page: onnxruntime-web, of one version, from the npm registry."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

__all__ = ["CDN", "INTEGRITY", "PACKAGE", "VERSION", "installed_files", "npm_install"]

PACKAGE = Path(__file__).resolve().parent / "package"
"""The npm package ``cunet-deploy-web``."""
VERSION: str = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))["peerDependencies"]["onnxruntime-web"]
"""Version of onnxruntime-web."""
INTEGRITY = {
    "ort.wasm.min.mjs": "sha384-SfFfy/pvthiOsgaw3KX0bV5TfQ6Iq+oY9KutMe4SxIuHH4cl+DCSD4rTsYOoG1tJ",
    "ort-wasm-simd-threaded.mjs": "sha384-XcXA/MtAf0WpB8e023xQH9CM7RIjiugakT7x99DIwpFf7k56BIFFcAPerIF7FDad",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
"""Files of its ``dist`` that a page needs to run networks on the CPU, with the checksums of subresource integrity."""
CDN = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{VERSION}/dist/"
"""Address at which the same files can be linked."""


def npm_install(folder: Path, *names: str) -> str:
    """Install packages of the versions that ``package.json`` states below a folder.

    Returns:
        Why they could not be installed; empty where they are.
    """
    npm = shutil.which("npm")
    if npm is None:
        return "npm is not installed"
    stated: dict[str, str] = json.loads((PACKAGE / "package.json").read_text(encoding="utf-8"))["devDependencies"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    command = [npm, "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix", str(folder)]
    command += [f"{name}@{stated[name]}" for name in names]
    # never ask, and give up soon: a machine without the registry should hear of it
    environment = {**os.environ, "npm_config_fetch_retries": "1", "npm_config_fetch_timeout": "60000"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=300, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return "npm took longer than 5 minutes"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return "" if done.returncode == 0 else (lines[0] if lines else f"npm ended with {done.returncode}")


def installed_files(folder: Path) -> list[Path]:
    """The files of `INTEGRITY` below a folder that `npm_install` filled."""
    return [folder / "node_modules" / "onnxruntime-web" / "dist" / name for name in INTEGRITY]
