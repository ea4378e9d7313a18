"""The mistakes that `compare` tries on a wrong layer."""
