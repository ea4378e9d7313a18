"""8-bit networks: what TensorFlow Lite's files compute, in plain NumPy, to the bit.

numbers     scale, zero point, multiplier, shift: the page to read first
rules       who rounds how: one table
tensors     tensors, operators, networks of them
sums        convolution, depthwise convolution, dense layer: accumulators and their requantization
others      one short function for every other operator
running     a network computed operator by operator
"""
