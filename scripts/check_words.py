"""Refuses words that docs/glossary.md has a better one for: file:line, what was found, what to write.

    python scripts/check_words.py

Looks at code, comments, docstrings, messages and pages; CHANGELOG.md may say what was called otherwise.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("npmobilenet", "kernels", "weights_convert", "tests", "benchmarks", "scripts", "docs", "examples")
WORDS = {  # what is refused: what to write
    r"needed is|is needed": "expected X, got Y",
    r"\b[Ss]o many\b|\bas many\b": "n, or the name of the number",
    r"\bbehind\b": "after",
    r"\bbeside\b": "next to, compared with, or in addition to",
    r"\b[Ww]hoever\b|\b[Nn]obody\b|\b[Ss]omebody\b|\b[Ee]verybody\b": "the agent: the caller, the port, the user",
    r"(?<!--)\b[Pp]ictures?\b": "image",
    r"\b\w*[a-z](?:alisation|ilisation|ognis(?:e|ed|es|ing)|malis(?:e|ed|es|ing))\b": "-ization, -ize",
    r"\b(?:grey|colour|centre)\b": "gray, color, center",
}


def pages() -> Iterator[Path]:
    """Every source file and page of the project, this one excepted."""
    yield from (ROOT / "README.md", ROOT / "CONTRIBUTING.md")
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".md") and "node_modules" not in path.parts:
                yield path


def findings(path: Path) -> Iterator[str]:
    """One line per refused word of a file."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for pattern, better in WORDS.items():
            if match := re.search(pattern, line):
                yield f"{path.relative_to(ROOT)}:{number}: {match[0]!r}; write {better}"


def main() -> int:
    found = [line for path in pages() if path != Path(__file__).resolve() for line in findings(path)]
    print("\n".join(found) or "words: nothing to replace")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
