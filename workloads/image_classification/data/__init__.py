"""Labelled images: where they come from and how a rank gets its share of them."""

from workloads.image_classification.data.base import Batch, ImageSource, IndexArray, Preprocessing
from workloads.image_classification.data.selection import open_source

__all__ = ["Batch", "ImageSource", "IndexArray", "Preprocessing", "open_source"]
