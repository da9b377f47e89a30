"""What is odd about a worker's Python."""

import os
import time

import aibench

if version := os.environ.get("ODD_VERSION"):
    aibench.__version__ = version
if skew_s := os.environ.get("ODD_SKEW_S"):
    true_time = time.time
    offset_s = float(skew_s)
    time.time = lambda: true_time() + offset_s
