"""Trials that sleep instead of training: for trying out clusters and the suite itself, never for a score."""

from workloads.synthetic.options import SyntheticOptions
from workloads.synthetic.workload import Synthetic

__all__ = ["Synthetic", "SyntheticOptions"]
