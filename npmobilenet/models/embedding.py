"""Images as vectors: the output of a layer, or the pooled embedding, of any number of images."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from npmobilenet.errors import ArgumentError, NpMobileNetError
from npmobilenet.models.preprocessing import ImageLike, Reading
from npmobilenet.models.streaming import prepared_batches
from npmobilenet.types import Array

if TYPE_CHECKING:
    from npmobilenet.models.image_model import ImageModel


def embed_each(
    model: "ImageModel",
    sources: Iterable[ImageLike],
    *,
    layer: str | None = None,
    resize: str | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Iterator[tuple[ImageLike, Array | NpMobileNetError]]:
    """Vectors of any number of images in constant memory; a bad image does not affect the others.

    Args:
        model: the network.
        sources: as for `Model.predict_each`.
        layer: name of the layer whose output is wanted; None for the pooled embedding of `Model.features`.
        resize, backend, threads: as for `Model.predict`.

    Yields:
        (source, result) in order; the result is (C,), with `layer` the shape of its output, or the image's error.

    Raises:
        ArgumentError: the network has no such layer; the message names similar ones.
        ImageError: the resize is unknown.
    """
    how = Reading(model.resize_rule(resize))
    how.check()
    compute = _to_layer(model, layer) if layer else model.embed
    return _embedded(model, sources, partial(compute, backend=backend, threads=threads), how, threads)


def _embedded(
    model: "ImageModel",
    sources: Iterable[ImageLike],
    compute: Callable[[Array], Array],
    how: Reading,
    threads: int | None,
) -> Iterator[tuple[ImageLike, Array | NpMobileNetError]]:
    for batch in prepared_batches(model, sources, how, threads):
        pixels = [found for _, found in batch if not isinstance(found, NpMobileNetError)]
        results = iter(compute(model.batch(pixels)) if pixels else ())
        for source, found in batch:
            yield source, found if isinstance(found, NpMobileNetError) else next(results)


def _to_layer(model: "ImageModel", layer: str) -> Callable[..., Array]:
    """The function from scaled images to the output of one layer."""
    names = model.layer_names
    if layer not in names:
        from difflib import get_close_matches

        near = get_close_matches(layer, names, n=3) or [names[-1]]
        raise ArgumentError(f"{model.interface.name}: unknown layer {layer!r}; for example: {', '.join(near)}")
    return partial(model.layer_output, layer)
