"""Print the table of docs/compare.md: mistakes made in an independent port, and how many the comparer names.

    python scripts/measure_comparer.py [REPEATS]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.porting.careless import measured, table


def main() -> None:
    """Measure and print."""
    rows, misses = measured(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(table(rows))
    print("\n".join(misses), file=sys.stderr)


if __name__ == "__main__":
    main()
