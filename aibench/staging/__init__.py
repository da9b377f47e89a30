"""Folders as parcels: packed once, brought to every node by its launcher, unpacked and checked there."""
