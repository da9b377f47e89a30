"""AI-compute benchmark: AutoML architecture search as the load, one recomputable normalized score."""

__version__ = "0.1.0"
