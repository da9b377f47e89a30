"""Image classification by convolutional networks."""

from workloads.image_classification.options import ImageClassificationOptions
from workloads.image_classification.workload import ImageClassification

__all__ = ["ImageClassification", "ImageClassificationOptions"]
