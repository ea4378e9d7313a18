"""`npmobilenet models`."""

from typing import Any

from npmobilenet.cli.shared import AsJson, reported
from npmobilenet.hub.cache import converted_path
from npmobilenet.hub.download import without_password
from npmobilenet.hub.published_models import KNOWN_MODELS, KnownModel
from npmobilenet.output import print_json, print_line, print_table


def models(as_json: AsJson = False) -> None:
    """List the known models: cost, accuracy, and whether cached."""
    with reported(as_json):
        if as_json:
            print_json([_document(known) for known in KNOWN_MODELS])
            return
        header = ("model", "M macs", "M params", "top-1 %", "top-5 %", "cached")
        print_table(header, map(_row, KNOWN_MODELS))
        print_line("each also with _no_top; --json adds addresses and the sources of the accuracies")


def _row(known: KnownModel) -> tuple[object, ...]:
    cached = "yes" if converted_path(known).exists() else ""
    return known.name, f"{known.macs / 1e6:.1f}", f"{known.params / 1e6:.2f}", known.top1, known.top5, cached


def _document(known: KnownModel) -> dict[str, Any]:
    path = converted_path(known)
    return {
        "model": known.name,
        "macs": known.macs,
        "params": known.params,
        "top1": known.top1,
        "top5": known.top5,
        "accuracy_source": known.accuracy_source,
        "url": without_password(known.url),
        "converted": str(path) if path.exists() else None,
    }
