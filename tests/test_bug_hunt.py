"""The bug hunt (docs/bug-hunt.md): every sentence is settled by one command; test_docs runs them all."""

import re

from tests.helpers.real_files import ROOT

PAGE = (ROOT / "docs" / "bug-hunt.md").read_text(encoding="utf-8")
SOURCES = {"V1": "arXiv:1704.04861v1", "V2": "arXiv:1801.04381", "V3": "arXiv:1905.02244"}
HEADING = re.compile(r'^### (\d+)\. "(.+)"$', re.MULTILINE)


def settled() -> dict[str, str]:
    """Text below each sentence, up to the next heading, by sentence."""
    _, *parts = HEADING.split(PAGE)
    return {
        sentence: re.split(r"^#", text, flags=re.MULTILINE)[0]
        for sentence, text in zip(parts[1::3], parts[2::3], strict=True)
    }


def test_sentences_are_numbered_in_order() -> None:
    numbers = [int(number) for number, _ in HEADING.findall(PAGE)]
    assert numbers == list(range(1, PAGE.count("\n### ") + 1))
    assert len(numbers) >= 14


def test_every_sentence_is_settled_by_one_command_and_what_it_prints() -> None:
    for sentence, text in settled().items():
        kinds = re.findall(r"^```(\w+)$", text, re.MULTILINE)
        assert kinds in (["python", "output"], ["console"]), f"{sentence}: {kinds}"
        assert "\n$ npmobilenet " in text or kinds != ["console"], sentence


def test_sentences_of_papers_are_among_the_errata() -> None:
    errata = (ROOT / "docs" / "errata.md").read_text(encoding="utf-8")
    cited = [found for text in settled().values() for found in re.findall(r"(V\d)'s paper, section ([\d.]*\d)", text)]
    assert len(cited) == 3
    for paper, section in cited:
        assert f"| {SOURCES[paper]} | {section} |" in errata, (paper, section)
