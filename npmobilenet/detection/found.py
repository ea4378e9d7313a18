"""What post-processing gives: boxes with categories and scores, still without a photograph."""

from dataclasses import dataclass

from npmobilenet.types import Array


@dataclass(frozen=True, eq=False)
class Found:
    """Boxes of one image, the best first.

    Attributes:
        boxes: (n, 4) float32, in the order and unit of the rule that found them.
        categories: (n,) slots of the scores: 0 is the background, 1 the first class.
        scores: (n,) float32.
    """

    boxes: Array
    categories: Array
    scores: Array
