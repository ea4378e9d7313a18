"""Drawn digits: six ways of writing each, as a pen's strokes; every other way is held out of training.

    python scripts/sketches.py         prints one of each way

No drawings by people were available. A sketch is a way of writing, shaken: its points jittered, slanted, widened and
turned, and drawn with a pen of 3.5 to 6.5 of 32 pixels.
"""

import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python scripts/...` finds its neighbors

from scripts.strokes import Ink, Strokes, ink_of_strokes

PENS = (3.5, 6.5)  # pixels of 32
SLANT = 0.3  # of the height, to either side
WIDTHS = (0.7, 1.3)
TURN = 0.15  # rad
JITTERS = (0.02, 0.07)  # of the height: standard deviation of the moves, steady hands and shaky ones
SHAKEN_AT = 4  # points along a stroke that are moved; the others follow in between

Points = NDArray[np.float64]
Way = list[Points]


def line(*points: tuple[float, float]) -> Points:
    """Straight from point to point, in steps short enough to be bent."""
    corners = np.array(points, float)
    steps = np.linspace(0, 1, 6)[:, None]
    parts = [start + (end - start) * steps for start, end in pairwise(corners)]
    return np.concatenate(parts)


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Points:
    """Part of an ellipse around (x, y), from an angle to another in degrees: 0 right, 90 down, 180 left, 270 up."""
    angle = np.radians(np.linspace(start, end, max(6, round(abs(end - start) / 15))))
    return np.stack([x + width / 2 * np.cos(angle), y + height / 2 * np.sin(angle)], axis=1)


def joined(*parts: Points) -> Points:
    """Parts written without lifting the pen."""
    return np.concatenate(parts)


# 1 high. Of each digit's ways, the first, third and fifth are trained on; the second, fourth and sixth are held out.
WAYS: tuple[tuple[Way, ...], ...] = (
    (  # 0
        [arc(0.35, 0.5, 0.7, 1, 270, -90)],  # an ellipse from the top
        [arc(0.3, 0.5, 0.55, 1, 300, -45)],  # narrow, not quite closed
        [arc(0.4, 0.5, 0.8, 1, -60, 320)],  # wide, clockwise, overlapping
        [arc(0.3, 0.5, 0.6, 1, 270, 90), arc(0.3, 0.5, 0.6, 1, 270, 450)],  # two halves
        [
            joined(arc(0.35, 0.3, 0.6, 0.6, 270, 180), arc(0.35, 0.7, 0.6, 0.6, 180, 0),
            arc(0.35, 0.3, 0.6, 0.6, 0, -90)),
        ],
        [  # a knot
            joined(line((0.45, 0.06), (0.4, 0)), arc(0.35, 0.5, 0.7, 1, 280, -100), line((0.3, 0.05), (0.5, 0.1))),
        ],
    ),
    (  # 1
        [line((0, 0), (0, 1))],  # a stroke
        [line((-0.2, 0.2), (0, 0), (0, 1))],  # with a serif
        [line((-0.2, 0.2), (0, 0), (0, 1)), line((-0.25, 1), (0.25, 1))],  # with a serif and a foot
        [line((0.3, 0), (0, 1))],  # a leaning stroke
        [line((-0.4, 0.45), (0, 0), (0, 1))],  # with a long serif
        [line((-0.12, 0.1), (0, 0), (0.02, 1)), line((-0.18, 1), (0.2, 0.98))],  # with a small serif and a foot
    ),
    (  # 2
        [  # a round head, a flat foot
            joined(arc(0.35, 0.28, 0.66, 0.56, 190, 390), line((0.6, 0.45), (0, 1), (0.7, 1))),
        ],
        [joined(arc(0.35, 0.25, 0.7, 0.5, 180, 380), line((0.65, 0.4), (0.05, 0.98), (0.75, 0.95)))],
        [  # a loop
            joined(arc(0.33, 0.27, 0.6, 0.54, 200, 400), arc(0.12, 0.9, 0.24, 0.2, 300, 60),
            line((0.2, 0.9), (0.7, 1))),
        ],
        [
            joined(arc(0.3, 0.25, 0.6, 0.5, 170, 420), arc(0.1, 0.88, 0.2, 0.24, 320, 20),
            line((0.2, 0.92), (0.5, 1), (0.7, 0.9))),
        ],
        [line((0.02, 0.08), (0.6, 0.02), (0.55, 0.4), (0, 0.98), (0.65, 1))],  # angular
        [
            joined(line((0, 0.18), (0.15, 0.02)), arc(0.35, 0.3, 0.6, 0.6, 250, 400),
            line((0.5, 0.55), (0.02, 0.95), (0.66, 0.98))),
        ],
    ),
    (  # 3
        [joined(arc(0.3, 0.25, 0.56, 0.5, 200, 440), arc(0.3, 0.74, 0.64, 0.52, 270, 520))],  # two bows
        [joined(arc(0.3, 0.27, 0.6, 0.54, 210, 430), arc(0.28, 0.76, 0.6, 0.48, 280, 510))],
        [joined(line((0.02, 0.02), (0.56, 0.02), (0.25, 0.4)), arc(0.25, 0.7, 0.66, 0.6, 270, 510))],  # a flat head
        [joined(line((0, 0.05), (0.6, 0), (0.28, 0.42)), arc(0.3, 0.72, 0.6, 0.58, 260, 530))],
        [
            joined(arc(0.3, 0.24, 0.5, 0.48, 190, 420), arc(0.36, 0.48, 0.14, 0.1, 60, 300),
            arc(0.28, 0.74, 0.68, 0.52, 280, 520)),
        ],
        [joined(arc(0.32, 0.2, 0.46, 0.4, 180, 450), arc(0.3, 0.7, 0.66, 0.6, 270, 540))],  # a small head
    ),
    (  # 4
        [line((0.1, 0), (0, 0.6), (0.65, 0.6)), line((0.5, 0.15), (0.45, 1))],  # open
        [line((0.05, 0), (0.05, 0.55), (0.7, 0.55)), line((0.5, 0), (0.5, 1))],  # open, upright
        [line((0.5, 1), (0.5, 0), (0, 0.68), (0.7, 0.68))],  # closed
        [line((0.45, 0), (0, 0.62), (0.7, 0.62)), line((0.5, 0.02), (0.46, 1))],  # closed, in two strokes
        [  # as a u
            joined(arc(0.3, 0.2, 0.6, 0.7, 200, 90), line((0.3, 0.55), (0.6, 0.5))), line((0.62, 0.05), (0.5, 1)),
        ],
        [line((0.25, 0), (0, 0.55), (0.72, 0.5)), line((0.55, 0.25), (0.42, 1))],  # half open
    ),
    (  # 5
        [  # hat last
            joined(line((0.1, 0), (0.05, 0.45)), arc(0.28, 0.7, 0.66, 0.6, 230, 510)), line((0.1, 0), (0.6, 0)),
        ],
        [joined(line((0.58, 0.02), (0.12, 0.02), (0.08, 0.42)), arc(0.27, 0.7, 0.62, 0.58, 240, 520))],  # in one stroke
        [joined(arc(0.4, 0.22, 0.6, 0.44, 300, 100), arc(0.3, 0.7, 0.6, 0.58, 270, 500))],  # round, as an S
        [line((0.6, 0), (0.05, 0), (0.05, 0.45), (0.6, 0.5), (0.58, 0.95), (0, 1))],  # angular
        [joined(line((0.65, 0), (0.08, 0), (0.02, 0.5), (0.2, 0.4)), arc(0.3, 0.68, 0.6, 0.62, 280, 480))],
        [joined(line((0.12, 0.08), (0.06, 0.46)), arc(0.26, 0.7, 0.7, 0.58, 235, 500)), line((0.14, 0.03), (0.66, 0))],
    ),
    (  # 6
        [joined(arc(0.55, 0.55, 1.0, 1.1, 260, 180), arc(0.33, 0.7, 0.6, 0.6, 180, -180))],  # bent
        [joined(line((0.5, 0), (0.08, 0.55)), arc(0.33, 0.7, 0.58, 0.6, 200, -160))],  # a straight stem
        [joined(line((0.4, 0), (0.1, 0.4)), arc(0.35, 0.68, 0.66, 0.64, 190, -170))],  # a large bow
        [joined(arc(0.5, 0.5, 0.9, 1.0, 270, 150), arc(0.3, 0.76, 0.5, 0.46, 170, -150))],  # a small bow
        [joined(arc(0.4, 0.5, 0.8, 1.0, 280, 90), arc(0.34, 0.74, 0.56, 0.5, 90, -120))],  # a spiral
        [arc(0.45, 0.5, 0.8, 1.0, 270, 110), arc(0.36, 0.72, 0.54, 0.54, 0, 360)],  # in two strokes
    ),
    (  # 7
        [line((0, 0), (0.6, 0), (0.2, 1))],  # a corner
        [line((0, 0.02), (0.65, 0), (0.15, 1)), line((0.12, 0.5), (0.6, 0.5))],  # leaning, with a bar
        [line((0, 0), (0.6, 0), (0.25, 1)), line((0.1, 0.5), (0.58, 0.48))],  # with a bar
        [joined(line((0, 0.04), (0.6, 0)), arc(0.75, 0.9, 1.0, 1.7, 250, 175))],  # bent
        [line((0, 0.15), (0.02, 0), (0.6, 0), (0.3, 1))],  # with a serif
        [  # with a serif and a bar
            line((0, 0.16), (0.04, 0.02), (0.66, 0), (0.3, 0.95)), line((0.2, 0.52), (0.6, 0.46)),
        ],
    ),
    (  # 8
        [
            joined(arc(0.3, 0.25, 0.5, 0.48, -30, -270), arc(0.3, 0.74, 0.6, 0.5, 270, 630),
            arc(0.3, 0.25, 0.5, 0.48, 90, -30)),
        ],
        [arc(0.3, 0.25, 0.5, 0.5, 0, 360), arc(0.3, 0.75, 0.6, 0.5, 0, 360)],  # two circles
        [arc(0.3, 0.2, 0.42, 0.4, 90, 450), arc(0.3, 0.7, 0.6, 0.6, 270, 630)],  # a small head
        [line((0.55, 0.12), (0.3, 0), (0.08, 0.2), (0.55, 0.75), (0.3, 1), (0.04, 0.78), (0.52, 0.25), (0.5, 0.1))],
        [line((0.05, 0.05), (0.6, 0.95), (0.02, 1), (0.55, 0.05), (0.05, 0.05))],  # an hourglass
        [
            joined(arc(0.32, 0.24, 0.5, 0.46, 320, 100), arc(0.3, 0.74, 0.56, 0.52, 270, 600),
            line((0.3, 0.48), (0.56, 0.12))),
        ],
    ),
    (  # 9
        [joined(arc(0.3, 0.3, 0.58, 0.6, 0, -360), line((0.58, 0.25), (0.55, 1)))],  # straight
        [joined(arc(0.3, 0.28, 0.6, 0.56, -20, -380), line((0.6, 0.2), (0.45, 1)))],  # leaning
        [joined(arc(0.3, 0.3, 0.6, 0.6, 0, -360), arc(0.15, 0.5, 0.9, 1.0, -20, 100))],  # bent
        [joined(arc(0.28, 0.25, 0.5, 0.5, 10, -350), arc(0.2, 0.6, 0.72, 0.8, -30, 130))],  # a hook
        [joined(arc(0.3, 0.27, 0.54, 0.54, -30, -300), line((0.5, 0.3), (0.58, 0.05), (0.5, 1)))],  # not quite closed
        [arc(0.28, 0.28, 0.52, 0.56, 0, 360), line((0.56, 0.02), (0.54, 1))],  # a circle and a stroke
    ),
)  # fmt: skip
TRAINED, HELD_OUT = slice(0, None, 2), slice(1, None, 2)


@dataclass(frozen=True)
class Sketch:
    """One drawn digit."""

    digit: int
    way: int  # of the digit's ways, held-out ones included
    strokes: Strokes
    pen: float  # pixels of 32

    def ink(self) -> Ink:
        """Ink (8, 8) in 0..16."""
        return ink_of_strokes(self.strokes, self.pen)


def sketches(ways: slice, number: int, seed: int) -> list[Sketch]:
    """Draw sketches of every digit.

    Args:
        ways: TRAINED or HELD_OUT.
        number: sketches per digit, its ways in turn.
        seed: of the random numbers.
    """
    rng = np.random.default_rng(seed)
    chosen = [list(range(len(of_digit)))[ways] for of_digit in WAYS]
    return [
        shaken(digit, chosen[digit][i % len(chosen[digit])], rng) for digit in range(len(WAYS)) for i in range(number)
    ]


def shaken(digit: int, way: int, rng: np.random.Generator) -> Sketch:
    """One sketch: its points jittered, then all of it slanted, widened and turned."""
    slant, turn, width = rng.uniform(-SLANT, SLANT), rng.uniform(-TURN, TURN), rng.uniform(*WIDTHS)
    jitter = rng.uniform(*JITTERS)
    turned = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    change = turned @ np.array([[width, -slant], [0, 1]])
    strokes = [_jittered(stroke, jitter, rng) @ change.T for stroke in WAYS[digit][way]]
    return Sketch(digit, way, strokes, rng.uniform(*PENS))


def _jittered(stroke: Points, jitter: float, rng: np.random.Generator) -> Points:
    """A stroke whose points are moved smoothly: a hand errs slowly."""
    moves = rng.normal(0, jitter, (SHAKEN_AT, 2))
    along, at = np.linspace(0, 1, len(stroke)), np.linspace(0, 1, SHAKEN_AT)
    return stroke + np.stack([np.interp(along, at, moves[:, axis]) for axis in (0, 1)], axis=1)


def main() -> None:
    """Print the ink of one sketch of each way."""
    rng = np.random.default_rng(0)
    for digit, ways in enumerate(WAYS):
        inks = [shaken(digit, way, rng).ink() for way in range(len(ways))]
        for row in range(8):
            print("   ".join("".join(" .:+*#%@@"[int(ink) // 2] for ink in ink_of_way[row]) for ink_of_way in inks))
        print()


if __name__ == "__main__":
    main()
