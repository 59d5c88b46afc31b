"""The checkpoints that the authors of the method published, turned into checkpoints of this package."""
