"""Many pictures at full speed: threads decode and resize the next ones while the network computes those that are ready.

    sources  --in_order: a few threads, a bounded number ahead-->  pixels  --batches-->  Model.forward  -->  answers

What is in memory does not grow with the number of pictures: decoded ones live no longer than it takes to resize them,
each in its thread, and resized ones are at most a batch and AHEAD for every thread.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from npmobilenet.errors import NpMobileNetError
from npmobilenet.models.model import check_threads
from npmobilenet.models.preprocessing import check_resize
from npmobilenet.types import Array

if TYPE_CHECKING:
    from concurrent.futures import Future

    from npmobilenet.models.model import Model, Picture

    Prepared = tuple[Picture, Array | NpMobileNetError]

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 8  # pictures computed together, at least, where there are as many
AHEAD = 4  # pictures per thread that are in work, or ready for the network


def predict_each(
    model: "Model",
    sources: "Iterable[Picture]",
    compute: Callable[[Array], Array],
    *,
    resize: str,
    draft: bool,
    threads: int | None,
) -> "Iterator[Prepared]":
    """Yield (source, (classes,) answer or error) in order.

    Args:
        compute: from scaled images (N, H, W, C) to answers (N, classes); called where a picture could be read.
        model, sources, resize, draft, threads: as `Model.predict_each`; errors too, before a source is read.
    """
    model.check_classifier()
    check_resize(resize, draft)
    check_threads(threads)
    return _predict_each(model, sources, compute, resize, draft, threads)


def _predict_each(
    model: "Model",
    sources: "Iterable[Picture]",
    compute: Callable[[Array], Array],
    resize: str,
    draft: bool,
    threads: int | None,
) -> "Iterator[Prepared]":
    for batch in prepared_batches(model, sources, resize=resize, draft=draft, threads=threads):
        pixels = [found for _, found in batch if not isinstance(found, NpMobileNetError)]
        answers = iter(compute(model.scale(np.stack(pixels))) if pixels else ())
        for source, found in batch:
            yield source, found if isinstance(found, NpMobileNetError) else next(answers)


def prepared_batches(
    model: "Model", sources: "Iterable[Picture]", *, resize: str, threads: int | None, draft: bool = False
) -> "Iterator[list[Prepared]]":
    """Yield lists of (source, (H, W, C) pixels in 0..255 or error), in order, as many as suit the engine's threads."""

    def prepare(source: "Picture") -> "Array | NpMobileNetError":
        try:
            return model.pixels(source, resize, draft)
        except NpMobileNetError as error:
            return error

    sources = iter(sources)
    first = list(islice(sources, 2))
    is_quick = len(first) < 2 or isinstance(first[0], np.ndarray)  # a single picture, or arrays: not worth a thread
    workers = 1 if is_quick else _number_of_threads(threads)
    pairs = in_order(prepare, chain(first, sources), workers)
    while batch := list(islice(pairs, -(-BATCH // workers) * workers)):
        yield batch


def in_order(work: Callable[[Item], Result], items: Iterable[Item], threads: int) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) for every item, in order; with more than one thread, worked on ahead.

    At most AHEAD * threads items have been read and not handed on. Items are read by the caller's thread. Whoever stops
    early, by leaving the loop or by an interrupt, waits for what is in work and for nothing else.

    Args:
        work: called in the threads.
        items: read as room becomes free.
        threads: how many work at a time; 1 is the caller's own.

    Raises:
        What `work` raises, in place of the pair that it belongs to; what `items` raises, at once.
    """
    if threads == 1:
        yield from ((item, work(item)) for item in items)
        return
    from concurrent.futures import ThreadPoolExecutor

    pending: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="npmobilenet-picture")
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


def _number_of_threads(asked: int | None) -> int:
    """As many as are asked for, or as the engine takes by itself, and no more than there are cores."""
    from npmobilenet_kernels.threads import available_cores

    cores = available_cores()
    if asked is not None:
        return min(asked, cores)
    try:
        from npmobilenet.compiler.thread_count import default_threads
    except ImportError:
        return cores
    return min(default_threads(), cores)
