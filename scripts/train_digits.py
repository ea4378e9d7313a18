"""Train the digits network that ships with the package, and draw the images in examples/digits.

    python scripts/train_digits.py [DESTINATION]

MobileNetV1, alpha 0.25, 32 x 32, on scikit-learn's bundled handwritten digits and on sketches. A fifth of the digits,
and half of the ways of writing that are sketched, are held out and never seen in training. Needs the `test` extra.
Takes some minutes; the result is converted by our own converter.

Data: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998,
https://doi.org/10.24432/C50P49, licence CC BY 4.0; scikit-learn carries its 1,797 test digits as 8 x 8 pixels.
"""

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npmobilenet.models.example_digits import image_of_ink
from npmobilenet.models.preprocessing import SYMMETRIC
from npmobilenet.models.resizing import RESIZES

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # so that `python scripts/...` finds its neighbors

from scripts.sketches import TRAINED, Sketch, sketches

ROOT = Path(__file__).resolve().parent.parent
SIDE = 32  # pixels, what the network takes
VIEWS = ("crop", "keras")  # resizes that it learns to see through
SKETCHES = 300  # of each digit
SEED = 1  # of the sketches; `sketch_accuracy.py` draws others
EPOCHS = 60
BATCH = 64

Digits = tuple[NDArray[np.uint8], NDArray[np.int64]]


def split_digits() -> tuple[Digits, Digits]:
    """Draw the digits and hold a fifth of them out.

    Returns:
        ((images (N, 64, 64, 3), digits (N,)) for training, the same held out).
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = np.stack([image_of_ink(ink) for ink in bunch.images])  # (1797, 64, 64, 3)
    train, held_out, y_train, y_held_out = train_test_split(
        images, bunch.target, test_size=0.2, stratify=bunch.target, random_state=0
    )
    return (train, y_train), (held_out, y_held_out)


def drawn(chosen: list[Sketch]) -> Digits:
    """Sketches as images (N, 64, 64, 3), and their digits (N,)."""
    images = np.stack([image_of_ink(sketch.ink()) for sketch in chosen])
    return images, np.array([sketch.digit for sketch in chosen])


def train(images: NDArray[np.uint8], digits: NDArray[np.int64], destination: Path) -> None:
    """Train on images (N, 64, 64, 3) as both ways of resizing see them, shaken a little; save `.keras`."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    views = [np.stack([RESIZES[resize](image, SIDE, SIDE) for image in images]) for resize in VIEWS]
    x = np.concatenate(views).astype(np.float32) * SYMMETRIC.scale + SYMMETRIC.offset  # (2N, 32, 32, 3)
    network = keras.applications.MobileNet((SIDE, SIDE, 3), alpha=0.25, weights=None, classes=10)
    shaken = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            keras.layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            keras.layers.RandomRotation(0.04, fill_mode="nearest"),
            keras.layers.RandomZoom(0.15, fill_mode="nearest"),
            network,
        ]
    )
    steps = EPOCHS * -(-len(x) // BATCH)
    shaken.compile(
        keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(3e-3, steps)),
        "sparse_categorical_crossentropy",
    )
    shaken.fit(x, np.tile(digits, len(views)), batch_size=BATCH, epochs=EPOCHS, verbose=2)
    network.save(destination)


def draw_examples(images: NDArray[np.uint8], digits: NDArray[np.int64], folder: Path) -> None:
    """Write the first held-out image of each digit."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for digit in range(10):
        Image.fromarray(images[digits == digit][0]).save(folder / f"{digit}.png", optimize=True)


def main() -> None:
    """Train, convert, draw."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from npmobilenet_weights_convert import convert_file

    (images, digits), held_out = split_digits()
    more_images, more_digits = drawn(sketches(TRAINED, SKETCHES, SEED))
    with tempfile.TemporaryDirectory() as folder:
        trained = Path(folder) / "digits.keras"
        train(np.concatenate([images, more_images]), np.concatenate([digits, more_digits]), trained)
        destination = Path(sys.argv[1]) if sys.argv[1:] else ROOT / "npmobilenet" / "data" / "digits.safetensors"
        convert_file(trained, destination, scaling=SYMMETRIC, labels=[str(digit) for digit in range(10)])
    draw_examples(*held_out, ROOT / "examples" / "digits")


if __name__ == "__main__":
    main()
