"""The score and its evidence, computed from a run's records alone."""
