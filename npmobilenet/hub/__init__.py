"""A name or a file becomes a model."""
