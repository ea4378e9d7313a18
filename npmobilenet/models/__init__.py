"""A graph with its weights: images in, predictions out, and the file that holds it."""
