"""Results in COCO's format, which pycocotools evaluates: one entry per object, with the ids of an annotation file.

Source: cocodataset.org, "Results Format".
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npmobilenet.errors import ArgumentError
from npmobilenet.models.detections import Detection
from npmobilenet.output import print_note


@dataclass
class CocoImages:
    """Ids of images and categories, by the name of the file and of the category.

    Attributes:
        images: id by file name.
        categories: id by name.
        left_out: labels that the annotations do not have.
    """

    images: Mapping[str, int]
    categories: Mapping[str, int]
    left_out: set[str] = field(default_factory=set)

    def image_id(self, image: str) -> int:
        """Id of an image file.

        Raises:
            ArgumentError: the annotations do not have this image.
        """
        name = Path(image).name
        if name not in self.images:
            raise ArgumentError(f"{image}: the annotations have no image of this file name")
        return self.images[name]

    def entries(self, image: str, detections: Sequence[Detection]) -> Iterator[dict[str, Any]]:
        """Entries of the objects on an image; a box is left, top, width, height."""
        for found in detections:
            if found.label not in self.categories:
                self.left_out.add(found.label)
                continue
            left, top, right, bottom = found.box
            yield {
                "image_id": self.image_id(image),
                "category_id": self.categories[found.label],
                "bbox": [left, top, right - left, bottom - top],
                "score": found.score,
            }

    def print_left_out(self) -> None:
        """A note on the labels that the annotations do not have."""
        if self.left_out:
            names = ", ".join(sorted(self.left_out))
            print_note(f"npmobilenet: objects left out, the annotations do not have their categories: {names}")


def read_annotations(path: Path, images: Sequence[str]) -> CocoImages:
    """The ids of an annotation file.

    Args:
        path: the file.
        images: files that are to have an id in it.

    Raises:
        ArgumentError: it cannot be read, is no such file, or does not have one of the images.
    """
    try:
        document = json.loads(path.read_bytes())
        ids = {str(image["file_name"]): int(image["id"]) for image in document["images"]}
        categories = {str(category["name"]): int(category["id"]) for category in document["categories"]}
    except OSError as error:
        raise ArgumentError(f"{path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ArgumentError(
            f"{path}: expected annotations of COCO, an object with images (id, file_name) and categories (id, name): "
            f"{type(error).__name__}: {error}"
        ) from error
    known = CocoImages(ids, categories)
    for image in images:
        known.image_id(image)
    return known
