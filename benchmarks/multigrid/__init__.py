"""Multigrid against the strongest methods at hand, in seconds at equal accuracy."""
