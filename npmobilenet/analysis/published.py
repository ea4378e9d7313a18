"""Published costs and accuracies of the MobileNet family, as printed.

The figures are facts, kept in `data/published-costs.csv` and `data/published-accuracies.csv` with their source; nothing
here is computed from a network. `recounts` counts the costs from graphs; accuracies are quoted.
"""

import csv
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from importlib.resources import files

V1, V2, V3 = "arXiv:1704.04861v1", "arXiv:1801.04381", "arXiv:1905.02244"

UNITS = {
    "count": Fraction(1),
    "kilobyte": Fraction(10**3),
    "million": Fraction(10**6),
    "billion": Fraction(10**9),
    "percent": Fraction(1),
    "MB": Fraction(2**20),  # Keras's table: bytes / 2**20
}


@dataclass(frozen=True)
class Figure:
    """One published number, as printed.

    Attributes:
        source, table: of the figure.
        model: name of the network in the source.
        alpha, resolution: None if the source gives none.
        metric: "mult_adds", "params", "share_params", "max_channels", "top1", ...
        printed: the printed digits.
        unit: a key of `UNITS`.
    """

    source: str
    table: str
    model: str
    alpha: float | None
    resolution: int | None
    metric: str
    printed: str
    unit: str

    @property
    def value(self) -> Fraction:
        """The printed number, in units of 1."""
        return Fraction(self.printed) * UNITS[self.unit]

    @property
    def step(self) -> Fraction:
        """The value of one unit of its last printed digit."""
        decimals = len(self.printed.partition(".")[2])
        return UNITS[self.unit] / Fraction(10**decimals)

    @property
    def coarse_step(self) -> Fraction:
        """The same if trailing zeros after the second digit of an integer are placeholders, as in 15300 million."""
        zeros = 0 if "." in self.printed else len(self.printed) - len(self.printed.rstrip("0"))
        return self.step * Fraction(10 ** max(0, min(zeros, len(self.printed) - 2)))


@cache
def figures() -> tuple[Figure, ...]:
    """All published costs, in the order of the file."""
    return _read("published-costs.csv")


@cache
def accuracies() -> tuple[Figure, ...]:
    """All published accuracies, in the order of the file: "top1" on ImageNet, and "map_coco", in percent."""
    return _read("published-accuracies.csv")


def _read(name: str) -> tuple[Figure, ...]:
    text = files("npmobilenet").joinpath(f"data/{name}").read_text(encoding="utf-8")
    return tuple(
        Figure(
            source=row["source"],
            table=row["table"],
            model=row["model"],
            alpha=float(row["alpha"]) if row["alpha"] else None,
            resolution=int(row["resolution"]) if row["resolution"] else None,
            metric=row["metric"],
            printed=row["printed"],
            unit=row["unit"],
        )
        for row in csv.DictReader(text.splitlines())
    )
