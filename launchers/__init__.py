"""Where workers run: one launcher per file."""
