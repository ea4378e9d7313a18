"""A scikit-learn transformer: images to MobileNet's embeddings. Requires `pip install npmobilenet[sklearn]`."""

from collections.abc import Iterable
from os import PathLike
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from npmobilenet.hub.load import load
from npmobilenet.models.embedding import embed_each
from npmobilenet.models.preprocessing import ImageLike
from npmobilenet.models.streaming import or_raise
from npmobilenet.types import Array


class MobileNetFeatures(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Images to vectors; there is nothing to fit.

    Args:
        model: as for `npmobilenet.load`.
        layer: name of a layer, whose output is flattened; None for the pooled embedding.
        resize: as for `Model.predict`.
    """

    def __init__(
        self, model: str | PathLike[str] = "mobilenet_v2_1.0_224", layer: str | None = None, resize: str | None = None
    ) -> None:
        self.model = model
        self.layer = layer
        self.resize = resize

    def fit(self, X: Iterable[ImageLike], y: Any = None) -> "MobileNetFeatures":
        """Load the network; the images are not read."""
        self.network_ = load(self.model)
        return self

    def transform(self, X: Iterable[ImageLike]) -> Array:
        """Vectors (N, C), float32.

        Args:
            X: paths, Pillow images or arrays (H, W, 3).

        Raises:
            ImageError: an image cannot be read.
            NpMobileNetError: as `embed_each`.
        """
        network = self.network_ if hasattr(self, "network_") else load(self.model)
        found = embed_each(network, X, layer=self.layer, resize=self.resize)
        return np.stack([np.ravel(or_raise(vector)) for _, vector in found])

    def __sklearn_is_fitted__(self) -> bool:
        """Nothing is learned, so it is always fitted."""
        return True
