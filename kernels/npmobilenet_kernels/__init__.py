"""Compiled convolution kernels; nothing here knows a network, a layer's name or a file of weights.

A ladder of five rungs (see `kernels/README.md`): `loops`, the formulas; `blocked`, the loop nest of the fast kernels on
arrays; `microkernels`, register tiles as vector instructions; `drivers`, the loops around them, one file per kind of
step; `runtime`, threads with work stealing, and what else touches the machine.

Importing the package compiles nothing and loads neither Numba nor LLVM.
"""
