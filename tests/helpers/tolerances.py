"""Tolerances that are chosen, not derived, each with its reason."""

import numpy as np

WIRING = 1e-3  # of the largest output: a layer that reads the wrong value gives something else altogether
FEATURES = 1e-4  # of the largest feature: 2**-24 times the terms of fifty layers, most of which cancel
LARGE_FACTORS = 1e-5  # of the largest output: three layers of float32, at most 144 terms each
BOUND_OVER_ERROR = 300
"""Rounding bound over measured error within the first block: errors cancel, so measured ratios are 11 to 62; a useless
bound is larger by orders of magnitude."""

MACHINES = 4
"""Factor between the maximum rounding error of a layer on two machines, whose BLAS sum in different orders."""

PROBABILITIES = 1e-5  # the fifth decimal, beyond what is printed of a probability; float32 leaves 6 to 7 digits
ACTIVATIONS = 1e-5  # of a layer's largest value, at least 1: float32 leaves 6 to 7 digits
STRUCTURES = 1e-4  # of an output of at most 1, from pixels in 0..255 through two random layers: logits reach hundreds
LOSSY_MEAN = 8  # of 255, mean over an image: a GIF has 256 colors, JPEG quantizes; swapped channels differ by over 40
LOSSY_COLOR = 3  # of 255: JPEG and WebP store one color as rounded YCbCr
CONSTANT_MEMORY = 64  # MB more for 600 images, 540 MB of them, than for 20: allocators keep some of what is freed
DIGITS_ACCURACY = 0.98  # of 360 held-out digits: two in a hundred lower than README's figure would be seen by a user
SKETCHES_ACCURACY = 0.95  # of sketches in ways of writing that training held out: one answer in twenty may be wrong
SKETCHES_ACCURACY_PER_DIGIT = 0.85  # no digit is much worse than the others
DRAWN_BOXES = (
    0.005  # of the photograph's side: a detector with drawn weights makes 1e-2 of its logits of rounding errors
)
DRAWN_SCORES = 1e-3  # of certainty, for the same reason; a head that reads another map changes them by some tenths
END_TO_END = 10  # ratio of two implementations' errors since the input: both are one draw of the same kind of noise
SMALL = 1e-3  # of the largest output, since the input, in float32: a mistake changes the output by more
LEAST_DECIBELS = (
    15  # of a layer in 8 bits: one that reads wrong integers has about 0, a step of 1/255 of a range 40 to 50
)
CALIBRATIONS = 1.0  # decibels between two ways to choose ranges from five images


def rounding(layers: int) -> float:
    """Rounding of float32 in a network of that depth, relative to the largest value: 2 eps per layer, all of one sign.

    A sum of n random products is off by about sqrt(n) u, with n below 16 in a depthwise kernel and a few hundred in a
    pointwise one, so a layer adds a few u = eps / 2. A wrong epsilon (1e-5 for 1e-3) adds 5e-4 per layer, a swapped
    array some tenths.
    """
    return layers * 2 * float(np.finfo(np.float32).eps)
