"""Kinds of files that the product reads, with good examples and what is done with a damaged one."""

from __future__ import annotations

from functools import partial

from cunet_deploy.bench.compare import Baseline
from cunet_deploy.checkpoint.legacy.convert import convert_checkpoint
from cunet_deploy.detection.onnx import OnnxDetector
from cunet_deploy.skeletons import COCO17, IBUG68, LSP14, MPII16
from fuzz.formats import mutate_boxes, mutate_chunks, mutate_ebml, mutate_protobuf, mutate_zip
from fuzz.labels import (
    load_boxes,
    read_agreement,
    read_config,
    read_layout,
    read_manifest,
    read_photos,
    read_points,
    write_agreement,
    write_boxes,
    write_coco,
    write_config,
    write_ibug,
    write_lsp,
    write_manifest,
    write_mpii_json,
    write_mpii_mat,
    write_photos,
    write_points,
    write_split,
)
from fuzz.models import (
    ask_teacher,
    inspect,
    load_ranges,
    read_engine,
    run_checkpoint,
    run_model,
    run_verify,
    write_bundle,
    write_checkpoints,
    write_detector,
    write_engine,
    write_graphs,
    write_legacy,
    write_model,
    write_ranges,
    write_report,
    write_teacher,
)
from fuzz.mutations import mutate_bytes, mutate_cells, mutate_json, mutate_lines
from fuzz.pictures import picture, watch, write_images, write_videos
from fuzz.runner import Target

__all__ = ["TARGETS"]

_LAYOUTS = {
    "300w": (write_ibug, IBUG68, ".", None, (mutate_lines, mutate_cells, mutate_json, mutate_bytes)),
    "lsp": (write_lsp, LSP14, "lspet", None, (mutate_bytes, mutate_json)),
    "mpii_mat": (write_mpii_mat, MPII16, "mpii", None, (mutate_bytes,)),
    "mpii_json": (write_mpii_json, MPII16, "mpii", None, (mutate_json, mutate_json, mutate_bytes)),
    "coco": (write_coco, COCO17, "coco", None, (mutate_json, mutate_json, mutate_bytes)),
    "splits": (write_split, LSP14, "lspet#test", None, (mutate_json,)),
}

TARGETS = {
    target.name: target
    for target in (
        Target("model", write_model, run_model, (mutate_protobuf, mutate_protobuf, mutate_bytes), 2),
        Target("graph", write_graphs, inspect, (mutate_protobuf, mutate_protobuf, mutate_bytes), 2),
        Target("detector", write_detector, lambda root, path: OnnxDetector(path).detect(picture()), (mutate_protobuf,)),
        Target("teacher", write_teacher, ask_teacher, (mutate_lines, mutate_protobuf, mutate_bytes)),
        Target("bundle", write_bundle, run_verify, (mutate_json, mutate_zip, mutate_bytes)),
        Target("engine", write_engine, read_engine, (mutate_json, mutate_json, mutate_bytes)),
        Target("checkpoint", write_checkpoints, run_checkpoint, (mutate_zip, mutate_zip, mutate_bytes)),
        Target("legacy", write_legacy, lambda root, path: convert_checkpoint(path), (mutate_bytes,)),
        Target("ranges", write_ranges, load_ranges, (mutate_json, mutate_zip, mutate_bytes)),
        Target("report", write_report, lambda root, path: Baseline.read(path), (mutate_json, mutate_bytes), 0.5),
        Target("manifest", write_manifest, read_manifest, (mutate_json, mutate_json, mutate_bytes)),
        Target("agreement", write_agreement, read_agreement, (mutate_json, mutate_json, mutate_bytes)),
        Target("config", write_config, read_config, (mutate_lines, mutate_lines, mutate_bytes), 2),
        Target("boxes", write_boxes, load_boxes, (mutate_json, mutate_cells, mutate_bytes), 2),
        *(
            Target(name, write, partial(read_layout, skeleton, dataset, layout), mutations)
            for name, (write, skeleton, dataset, layout, mutations) in _LAYOUTS.items()
        ),
        Target("faces", write_photos, read_photos, (mutate_json, mutate_bytes)),
        Target("points", write_points, read_points, (mutate_cells, mutate_json, mutate_bytes)),
        Target("image", write_images, watch, (mutate_bytes, mutate_chunks), 3),
        Target("video", write_videos, watch, (mutate_bytes, mutate_boxes, mutate_ebml, mutate_chunks), 3),
    )
}
