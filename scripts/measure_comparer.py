"""Print the tables of docs/compare.md: mistakes made in an independent port, and how many the comparer names.

python scripts/measure_comparer.py [REPEATS] [--fused]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.porting.careless import measured, table


def main(arguments: list[str]) -> None:
    """Measure and print; misses go to standard error."""
    numbers = [int(word) for word in arguments if word.isdigit()]
    rows, misses = measured(numbers[0] if numbers else 2, fused="--fused" in arguments)
    print(table(rows))
    print("\n".join(misses), file=sys.stderr)


if __name__ == "__main__":
    main(sys.argv[1:])
