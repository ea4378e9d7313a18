"""Streams of images at full throughput: threads decode and resize the next images while the network computes.

    sources  --in_order: a few threads, a bounded number ahead-->  pixels  --batches-->  forward  -->  results

Memory does not grow with the number of images: a decoded one lives only until its thread has resized it, and at most a
batch of resized ones plus AHEAD per thread are in flight.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.backends import check_threads
from npmobilenet.models.output_rows import rows
from npmobilenet.models.preprocessing import ImageLike, ImagesLike, Reading, network_pixels
from npmobilenet.types import Array, Outputs

if TYPE_CHECKING:
    from concurrent.futures import Future

    from npmobilenet.models.image_model import ImageModel

    Prepared = tuple[ImageLike, Outputs | NpMobileNetError]

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 8  # minimum batch size, if there are enough images
AHEAD = 4  # images per thread that are being prepared, or ready for the network


def predict_each(
    model: "ImageModel",
    sources: Iterable[ImageLike],
    compute: Callable[[Array], Outputs],
    how: Reading,
    threads: int | None,
) -> "Iterator[Prepared]":
    """Check the arguments, then yield (source, (classes,) result or error) in order.

    Args:
        compute: from scaled images (N, H, W, C) to the network's output, (N, classes) or {name: (N, ...)}; called if at
            least one image can be read.
        how: how images are read.
        model, sources, threads: as `ImageModel.predict_each`.

    Raises:
        as `ImageModel.predict_each`, before a source is read.
    """
    model.check_classifier()
    how.check()
    check_threads(threads)
    return _predict_each(model, sources, compute, how, threads)


def _predict_each(
    model: "ImageModel",
    sources: Iterable[ImageLike],
    compute: Callable[[Array], Outputs],
    how: Reading,
    threads: int | None,
) -> "Iterator[Prepared]":
    for batch in prepared_batches(model, sources, how, threads):
        pixels = [found for _, found in batch if not isinstance(found, NpMobileNetError)]
        results = rows(compute(model.batch(pixels))) if pixels else iter(())
        for source, found in batch:
            yield source, found if isinstance(found, NpMobileNetError) else next(results)


def prepared_batches(
    model: "ImageModel", sources: Iterable[ImageLike], how: Reading, threads: int | None
) -> "Iterator[list[Prepared]]":
    """Yield lists of (source, (H, W, C) pixels in 0..255 or error), in order, of at least `BATCH` images."""

    def prepare(source: ImageLike) -> Array | NpMobileNetError:
        try:
            return network_pixels(source, model.interface, how)
        except NpMobileNetError as error:
            return error

    sources = iter(sources)
    first = list(islice(sources, 2))
    is_quick = len(first) < 2 or isinstance(first[0], np.ndarray)  # a single image, or arrays: not worth a thread
    workers = 1 if is_quick else threads_for(threads)
    pairs = in_order(prepare, chain(first, sources), workers)
    while batch := list(islice(pairs, -(-BATCH // workers) * workers)):
        yield batch


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) for every item, in order; with more than one thread, computed ahead.

    At most AHEAD * threads items have been read and not yet yielded. Items are read in the caller's thread. Stopping
    early, by leaving the loop or by an interrupt, waits only for the items being worked on.

    Args:
        work: called in the threads.
        items: read as the queue has room.
        threads: number of threads; 1 is the caller's own.

    Raises:
        What `work` raises, in place of its pair; what `items` raises, at once.
    """
    if threads == 1:
        yield from ((item, work(item)) for item in items)
        return
    from concurrent.futures import ThreadPoolExecutor

    pending: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="npmobilenet-image")
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) == AHEAD * threads:
                item, result = pending.popleft()
                yield item, result.result()
        for item, result in pending:
            yield item, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def each_image(images: ImagesLike) -> Sequence[ImageLike] | Array:
    """Sequence of single images; a batch (N, H, W, C) is returned unchanged, any other iterable as a list."""
    if isinstance(images, np.ndarray) and images.dtype.kind not in "OU":  # those hold paths, or other sources
        return images if images.ndim == 4 else [images]
    is_single = isinstance(images, str | bytes | bytearray | memoryview) or hasattr(images, "read")
    if is_single or not isinstance(images, Iterable):
        return [cast("ImageLike", images)]
    return cast("Sequence[ImageLike]", images if isinstance(images, Sequence) else list(images))


def or_raise(found: Array | NpMobileNetError) -> Array:
    """Return pixels; raise an error that was found in their place."""
    if isinstance(found, NpMobileNetError):
        raise found
    return found


def threads_for(requested: int | None) -> int:
    """Threads that decode: the requested number, or the engine's default, and at most the number of cores."""
    from npmobilenet_kernels.runtime.thread_pool import available_cores

    cores = available_cores()
    if requested is not None:
        return min(requested, cores)
    try:
        from npmobilenet.compiler.thread_count import default_threads
    except ImportError:
        return cores
    return min(default_threads(), cores)
