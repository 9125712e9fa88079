"""The typed configuration. Nothing here imports torch, so that a wrong configuration is refused at once."""

from experiments.schema.compose import load, plain, recorded
from experiments.schema.config import Cell, Config
from experiments.schema.overrides import ConfigError

__all__ = ["Cell", "Config", "ConfigError", "load", "plain", "recorded"]
