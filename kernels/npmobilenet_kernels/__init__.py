"""Compiled kernels for MobileNet; nothing here knows a network, a layer's name or a file of weights.

In reading order: `plain` (the loops that explain), `vector` (instructions), `tiles` (the innermost loops as
instructions), `gather` (pixels in another order, for general convolutions), `curves` (softmax and sigmoid), `lanes`
(what the CPU offers), `layout` (how arrays lie in memory), `steps` (the table that a network becomes), `network` (the
loops around the tiles, and the threads' meeting points), `native` (from all this to machine code, and into this
process), `building` (a process that compiles what is missing), `kept` (files for the next process), `threads` (who runs
it).

Importing the package compiles nothing and loads neither Numba nor LLVM.
"""
