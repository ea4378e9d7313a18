"""The page's texts: two languages, the same placeholders, nothing left untranslated, nothing left over."""

import re
from collections import Counter

import pytest

from npmobilenet.page.compose import FOLDER, SCRIPTS, texts

TEXTS = texts()
KEPT_ENGLISH = (
    "Keras", "TensorFlow", "PyTorch", "NumPy", "JavaScript", "Python", "MicroPython", "MobileNet", "npmobilenet",
    "Pillow", "JPEG", "PNG", "SHA-256", "MIT", "CC BY", "safetensors", "Enter", "Shift", "ReLU6", "ReLU", "SSD",
    "ImageNet",
)  # fmt: skip
"""Names that stay in Latin letters; so do the letters of formulas and what stands in quotation marks of code."""


@pytest.mark.parametrize("key", TEXTS["en"])
def test_both_languages_fill_the_same_placeholders(key: str) -> None:
    placeholders = {language: sorted(re.findall(r"\{(\w+)\}", TEXTS[language][key])) for language in TEXTS}
    assert placeholders["en"] == placeholders["zh"]


def test_chinese_texts_are_chinese() -> None:
    untranslated = {
        key: text
        for key, text in TEXTS["zh"].items()
        if re.search(r"[A-Za-z]{4,}", text) and not re.search(r"[\u4e00-\u9fff]", text) and text not in KEPT_ENGLISH
    }
    assert untranslated == {}


def test_every_text_is_used() -> None:
    code = "".join(FOLDER.joinpath(f"js/{script}.js").read_text(encoding="utf-8") for script in SCRIPTS)
    assert [key for key in TEXTS["en"] if not is_used(key, code)] == []


def test_every_name_of_the_scripts_is_declared_once() -> None:
    """They are one script in the page: of two functions of one name, the last would run in both places."""
    code = "\n".join(FOLDER.joinpath(f"js/{script}.js").read_text(encoding="utf-8") for script in SCRIPTS)
    names = re.findall(r"(?m)^(?:async )?(?:function\*?|const|let|class) (\w+)", code)
    assert [name for name, times in Counter(names).items() if times > 1] == []


def is_used(key: str, code: str) -> bool:
    """Whether a key stands in the code, or can be made there: `c.${name}` with a name that is there."""
    prefix, _, name = key.partition(".")
    if name in ("title", "lead", "notice") or f'"{key}"' in code:
        return True
    return f"`{prefix}." in code and re.search(rf"\b{re.escape(name.rpartition('-')[2])}\b", code) is not None
