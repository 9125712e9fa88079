"""The typed configuration. Nothing here imports torch: a wrong configuration is refused before anything is loaded."""

from .config import Config, check, epochs, key_of, register, seeds_of

__all__ = ["Config", "check", "epochs", "key_of", "register", "seeds_of"]
