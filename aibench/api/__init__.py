"""What plugins may import: the interfaces of launchers and workloads and the records they exchange."""
