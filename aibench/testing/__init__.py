"""Suites that plug-ins of aibench pass; they need pytest."""
