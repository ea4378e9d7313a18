"""Drivers: the loops around the micro-kernels, one file per kind of step."""
