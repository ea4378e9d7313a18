"""What every layer computes, in NumPy and integers."""
