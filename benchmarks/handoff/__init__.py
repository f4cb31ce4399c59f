"""Handing over, held against everything else: regret, ways, controls, classical solvers."""
