"""From a checkpoint to a bundle: ONNX, its manifest, and the proof that both compute the same."""
