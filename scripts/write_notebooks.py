"""Write the notebook of every lesson: lessons/NN_name.py to lessons/NN_name.ipynb, without outputs."""

from pathlib import Path

LESSONS = Path(__file__).resolve().parent.parent / "lessons"


def notebook(path: Path) -> str:
    """Text of the notebook of a lesson, the same at every call: cells are numbered, nothing is dated."""
    import jupytext  # type: ignore[import-untyped]

    document = jupytext.read(path)
    for number, cell in enumerate(document.cells):
        cell["id"] = f"cell-{number}"
    document.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return str(jupytext.writes(document, fmt="ipynb")).rstrip() + "\n"


if __name__ == "__main__":
    for path in sorted(LESSONS.glob("*.py")):
        path.with_suffix(".ipynb").write_text(notebook(path), encoding="utf-8")
