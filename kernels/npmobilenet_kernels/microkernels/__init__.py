"""Micro-kernels: register tiles written as vector instructions, one function of the emitter each."""
