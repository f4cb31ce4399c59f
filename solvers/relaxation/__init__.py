"""Relaxations, one method a file."""
