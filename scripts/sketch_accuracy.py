"""Accuracy of the digits network on drawings, digit by digit, and on scikit-learn's held-out digits.

    python scripts/sketch_accuracy.py [FILE] [--number 100]

The sketches are in the ways of writing that training held out, made from another seed; the same for the ways that were
trained on follows. "Not sure" are answers below 60 %, as the page shows them. Needs scikit-learn.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npmobilenet import Model
from npmobilenet.hub.load import load

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python scripts/...` finds its neighbors

from scripts.sketches import HELD_OUT, TRAINED, WAYS, Sketch, sketches
from scripts.train_digits import Digits, drawn, split_digits

UNSURE = 0.6  # as in `npmobilenet/page/js/views/a.js`
SEED = 2  # of the sketches; training takes another


@dataclass(frozen=True)
class Accuracy:
    """Answers of the network to images whose digits are known."""

    digits: NDArray[np.int64]  # (N,)
    answers: NDArray[np.int64]  # (N,)
    confidence: NDArray[np.float32]  # (N,), probability of the answer

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each is the digit, (N,)."""
        return np.equal(self.answers, self.digits)

    def of_digit(self, digit: int) -> float:
        """Share of a digit's images that are answered rightly."""
        return float(self.right[self.digits == digit].mean())


def accuracy(model: Model, images: NDArray[np.uint8], digits: NDArray[np.int64]) -> Accuracy:
    """Classify images (N, 64, 64, 3) as the page does."""
    probabilities = model.predict(images, resize="crop")
    return Accuracy(digits, probabilities.argmax(axis=1), probabilities.max(axis=1))


def held_out_sketches(number: int = 100) -> Digits:
    """Sketches in ways of writing that are held out, `number` of each digit."""
    return drawn(sketches(HELD_OUT, number, SEED))


def report(title: str, found: Accuracy) -> None:
    """Print accuracy, digit by digit, and how many answers the page would call "not sure"."""
    unsure = found.confidence < UNSURE
    print(f"{title}: {found.right.sum()} of {found.right.size} ({found.right.mean():.1%})", end="")
    print(f"; not sure: {unsure.sum()}, wrong and sure: {(~found.right & ~unsure).sum()}")
    print("  " + "  ".join(f"{digit}: {found.of_digit(digit):.0%}" for digit in range(10)))


def report_ways(chosen: list[Sketch], found: Accuracy) -> None:
    """Print the accuracy of each way of writing."""
    ways = np.array([sketch.way for sketch in chosen])
    for digit in range(len(WAYS)):
        rows = {way: found.right[(found.digits == digit) & (ways == way)] for way in range(len(WAYS[digit]))}
        print(
            f"  {digit}:", "  ".join(f"way {way + 1} {right.mean():.0%}" for way, right in rows.items() if right.size)
        )


def main() -> None:
    """Print the accuracies."""
    parser = argparse.ArgumentParser(description="Accuracy of the digits network on drawings.")
    parser.add_argument("model", nargs="?", default="digits", help="name or file")
    parser.add_argument("--number", type=int, default=100, help="sketches of each digit")
    options = parser.parse_args()
    model = load(options.model)
    _, held_out = split_digits()
    report("scikit-learn's held-out digits", accuracy(model, *held_out))
    for title, ways in (("held-out ways of writing", HELD_OUT), ("trained ways of writing", TRAINED)):
        chosen = sketches(ways, options.number, SEED)
        found = accuracy(model, *drawn(chosen))
        report(title, found)
        report_ways(chosen, found)


if __name__ == "__main__":
    main()
