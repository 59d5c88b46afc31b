from cunet_deploy.config.run import Config, differences, load_bits, load_config, own_skeleton_file, parse_config
from cunet_deploy.config.sections import AugmentConfig, BoxConfig, DataConfig, HeatmapConfig, ModelConfig, SourceConfig
from cunet_deploy.config.training import WEIGHT_FORMATS, QuantConfig, TrainConfig

__all__ = [
    "WEIGHT_FORMATS",
    "AugmentConfig",
    "BoxConfig",
    "Config",
    "DataConfig",
    "HeatmapConfig",
    "ModelConfig",
    "QuantConfig",
    "SourceConfig",
    "TrainConfig",
    "differences",
    "load_bits",
    "load_config",
    "own_skeleton_file",
    "parse_config",
]
