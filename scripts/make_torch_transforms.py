"""Write tests/helpers/torch_transforms.json: the evaluation transforms of torchvision and timm, as digests of pixels.

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch torchvision timm
    /tmp/torch/bin/python scripts/make_torch_transforms.py

For every rule and target size: the first 16 digits of the SHA-256 of the pixels of all noise images, one after another.
The two packages agree wherever both know a rule, which is checked.
"""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import timm
import torchvision
from PIL import Image
from timm.data import create_transform
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

DESTINATION = Path(__file__).parent.parent / "tests" / "helpers" / "torch_transforms.json"
FILTERS = ("bilinear", "bicubic")
PARTS = (0.875, 0.9, 0.95, 1)
TARGETS = ((224, 224), (256, 256), (160, 192))  # height, width
SIZES = ((500, 375), (375, 500), (301, 299), (640, 90), (57, 33), (256, 341), (232, 232))  # width, height
UNSCALED = {"mean": (0, 0, 0), "std": (1, 1, 1)}


def noise(width: int, height: int) -> Image.Image:
    """An image of uniform noise, RGB."""
    rng = np.random.default_rng(1000 * width + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def digest(transform: Callable[[Image.Image], Any]) -> str:
    """Digest of the pixels of all images."""
    found = sha256()
    for size in SIZES:
        pixels = transform(noise(*size)).permute(1, 2, 0).numpy() * 255  # (H, W, 3)
        found.update(pixels.round().astype(np.uint8).tobytes())
    return found.hexdigest()[:16]


def main() -> None:
    """Compute and write all digests."""
    found: dict[str, str] = {}
    for filter_ in FILTERS:
        for part in PARTS:
            for H, W in TARGETS:
                transform = create_transform((3, H, W), interpolation=filter_, crop_pct=part, **UNSCALED)
                found[f"torch-{filter_}-{part}/{W}x{H}"] = digest(transform)
        for short, name in ((232, "232"), (256, "0.875")):
            mode = InterpolationMode(filter_)
            of_torchvision = digest(
                ImageClassification(crop_size=224, resize_size=short, interpolation=mode, **UNSCALED)
            )
            if found.setdefault(f"torch-{filter_}-{name}/224x224", of_torchvision) != of_torchvision:
                raise SystemExit(f"torchvision and timm differ: {filter_} {name}")
    versions = {"torchvision": torchvision.__version__, "timm": timm.__version__, "pillow": PIL.__version__}
    DESTINATION.write_text(json.dumps({"versions": versions, "sizes": SIZES, "digests": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
