"""What trials train: one package per workload, found by name through the registry."""
