"""Fourteen exercises that mark themselves: functions to write, cases from a seed, and the mistake that was made."""

IN_MICROPYTHON = ("nested", "exercise", "plainly", "judgment", "convolution_exercises", "first_five")
"""Modules of this folder that run unchanged in MicroPython, each after those that it imports."""
