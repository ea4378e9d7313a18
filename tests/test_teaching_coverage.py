"""The table of docs/teaching.md: every view, figure, exercise and lesson that it names exists, and none is left out."""

import re
from collections.abc import Iterator

from npmobilenet.exercises.cases import EXERCISES
from npmobilenet.figures.figure_catalog import FIGURES
from tests.helpers.real_files import ROOT

VIEWS = {path.stem.upper() for path in (ROOT / "npmobilenet" / "page" / "js" / "views").glob("*.js")}
LESSONS = ROOT / "lessons"
HEADER = "| topic | view | figure | lesson | exercise |"
NOTHING = "–"


def topics() -> Iterator[dict[str, list[str]]]:
    """Rows of the table: names by column, the topic itself as the only name of its own."""
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    columns = [column.strip() for column in HEADER.strip("|").split("|")]
    _, _, table = page.partition(f"{HEADER}\n")
    _, *lines = table.partition("\n\n")[0].strip().splitlines()
    assert len(lines) >= 15, "the table was not found, or topics are missing"
    for line in lines:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        names = [[] if cell == NOTHING else cell.split(", ") for cell in cells[1:]]
        yield dict(zip(columns, [[cells[0]], *names], strict=True))


def named(column: str) -> set[str]:
    return {name for topic in topics() for name in topic[column]}


def test_the_views_are_those_of_the_page() -> None:
    assert named("view") == VIEWS


def test_the_figures_are_those_that_are_drawn() -> None:
    assert named("figure") == set(FIGURES)


def test_the_exercises_are_those_that_are_judged() -> None:
    assert named("exercise") == {exercise.name for exercise in EXERCISES}


def test_the_lessons_are_those_of_the_folder() -> None:
    numbers = {int(found[1]) for path in LESSONS.glob("*.py") if (found := re.match(r"(\d\d)_", path.name))}
    assert {int(name) for name in named("lesson")} == numbers


def test_every_topic_is_taught_in_some_way() -> None:
    for topic in topics():
        assert any(topic[column] for column in ("view", "figure", "lesson", "exercise")), topic["topic"]


def test_the_lecture_shows_views_of_the_page_minute_by_minute() -> None:
    page = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) to (\d+) \| ([A-Z, ]+) \|", page, re.MULTILINE)
    assert {view for *_, views in rows for view in views.split(", ")} <= VIEWS
    assert [int(begin) for begin, *_ in rows] == [0, *(int(end) for _, end, _ in rows[:-1])]
    assert rows[-1][1] == "45"
