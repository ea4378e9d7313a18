"""Figures of the papers: numbers that tests hold, and drawings of them."""
