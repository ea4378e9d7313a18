"""Costs, memory and rounding of a graph."""
