"""Progress of a long computation, reported while its items pass by."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Passes items through and shows how many have passed: `output.progress_bar`."""

    def __call__(self, items: Iterable[Item], total: int, label: str, /) -> Iterable[Item]: ...


def no_progress(items: Iterable[Item], total: int, label: str, /) -> Iterable[Item]:
    """The items, with nothing shown."""
    return items
