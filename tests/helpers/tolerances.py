"""Tolerances that are chosen, not derived, each with its reason."""

WIRING = 1e-3  # of the largest output: a layer that reads the wrong value gives something else altogether
PROBABILITIES = 1e-5  # the fifth decimal, beyond what is printed of a probability; float32 leaves 6 to 7 digits
FEATURES = 1e-4  # of the largest feature: 2**-24 times the terms of fifty layers, most of which cancel
LARGE_FACTORS = 1e-5  # of the largest output: three layers of float32, at most 144 terms each
