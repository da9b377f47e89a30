import os

# Small networks: more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")
