"""Write npmobilenet/data/imagenet_classes.txt: the 1000 ImageNet classes, one `wnid label` a line, in output order.

The facts come from the PyPI package timm (Apache-2.0): `imagenet_synsets.txt` has the WordNet ids in the order of the
outputs, `imagenet_synset_to_lemma.txt` the words of each. A label is spelled as Keras spells it: the first word, with
underscores for spaces. The result is checked against the MD5 that Keras's source has for `imagenet_class_index.json`.

    pip install --no-deps timm
    python scripts/make_imagenet_classes.py
"""

import hashlib
import json
from importlib.metadata import files
from pathlib import Path

KERAS_CLASS_INDEX_MD5 = "c2c37ea517e94d9795004a39431a14cb"  # keras/src/applications/imagenet_utils.py
OUTPUT = Path(__file__).resolve().parents[1] / "npmobilenet" / "data" / "imagenet_classes.txt"


def timm_list(name: str) -> list[str]:
    """Return the lines of one of timm's data files; timm itself is not imported, since that needs PyTorch."""
    (found,) = (entry for entry in files("timm") or () if entry.name == name)
    return found.read_text(encoding="utf-8").splitlines()


def keras_classes() -> list[tuple[str, str]]:
    """Return (wnid, label) of the 1000 classes, in the order of the network's outputs, in Keras's spelling."""
    words = dict(line.split("\t") for line in timm_list("imagenet_synset_to_lemma.txt"))
    return [(wnid, words[wnid].split(", ")[0].replace(" ", "_")) for wnid in timm_list("imagenet_synsets.txt")]


def keras_class_index(classes: list[tuple[str, str]]) -> str:
    """Return the text of Keras's `imagenet_class_index.json` for these classes."""
    return json.dumps({str(index): list(pair) for index, pair in enumerate(classes)})


def main() -> None:
    """Make the file, or stop when it would not be Keras's list."""
    classes = keras_classes()
    digest = hashlib.md5(keras_class_index(classes).encode(), usedforsecurity=False).hexdigest()
    if digest != KERAS_CLASS_INDEX_MD5:
        raise SystemExit(f"the list made from timm has MD5 {digest}, Keras's has {KERAS_CLASS_INDEX_MD5}: not written")
    OUTPUT.write_text("".join(f"{wnid} {label}\n" for wnid, label in classes), encoding="utf-8")
    print(f"{OUTPUT.name}: {len(classes)} classes, equal to Keras's imagenet_class_index.json")


if __name__ == "__main__":
    main()
