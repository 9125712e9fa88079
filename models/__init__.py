"""The paper's networks, and any network of timm.

Letters in the docstrings give the source of a choice: P the SALR paper, E the paper and code of Entropy-SGD,
Z Zaremba et al. 2014, O our own.
"""

from models.dropout import Dropout
from models.registry import build, names

__all__ = ["Dropout", "build", "names"]
