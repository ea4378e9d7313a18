"""Tolerances that are chosen, not derived, each with its reason."""

BOUND_OVER_ERROR = 300
"""Rounding bound over measured error within the first block: errors cancel, so measured ratios are 11 to 62; a useless
bound is larger by orders of magnitude."""

MACHINES = 4
"""Factor between the maximum rounding error of a layer on two machines, whose BLAS sum in different orders."""
