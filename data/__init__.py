"""The data sets: tensors on the device, and batches that depend on nothing but two random generators."""

from data.base import Batch, DataError
from data.images import ImageData
from data.registry import fetch, load, names
from data.text import TextData

__all__ = ["Batch", "DataError", "ImageData", "TextData", "fetch", "load", "names"]
