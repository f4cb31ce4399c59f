"""Multigrid: transfers between grids, cycles and predictions of their speed."""
