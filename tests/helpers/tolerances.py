"""Tolerances that are chosen, not derived, each with its reason."""

WIRING = 1e-3  # of the largest output: a layer that reads the wrong value gives something else altogether
FEATURES = 1e-4  # of the largest feature: 2**-24 times the terms of fifty layers, most of which cancel
LARGE_FACTORS = 1e-5  # of the largest output: three layers of float32, at most 144 terms each
PROBABILITIES = 1e-5  # the fifth decimal, beyond what is printed of a probability; float32 leaves 6 to 7 digits
ACTIVATIONS = 1e-5  # of a layer's largest value, at least 1: float32 leaves 6 to 7 digits
LOSSY_MEAN = (
    8  # of 255, mean over an image: 256 colors of a GIF, JPEG's quantization; swapped channels differ by over 40
)
LOSSY_COLOR = 3  # of 255: JPEG and WebP store one color as rounded YCbCr
CONSTANT_MEMORY = 64  # MB more for 600 images, 540 MB of them, than for 20: allocators keep some of what is freed
DIGITS_ACCURACY = 0.98  # of 360 held-out digits: two in a hundred lower than README's figure would be seen by a user
