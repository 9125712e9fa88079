"""The paper's networks.

Letters in the docstrings say where a choice comes from: P the SALR paper, E the paper and code of Entropy-SGD,
Z Zaremba et al. 2014, O our own.
"""

from models.dropout import Dropout
from models.registry import build, names

__all__ = ["Dropout", "build", "names"]
