"""For those who implement MobileNet elsewhere: test vectors, verification, diagnosis."""
