"""A worker: a gang of ranks that trains one trial after another until it is told to stop."""
