"""Tolerances that are chosen, not derived, each with its reason."""

END_TO_END = 10
"""Ratio of two implementations' errors from the input on: both are one draw of the same kind of noise."""

SMALL = 1e-3
"""Relative error of a whole network in float32 below which no mistake can hide: any changes the output by more."""
