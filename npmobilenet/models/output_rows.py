"""Batches of a network's output, which is an array or, of a network with several outputs, a dict of arrays by name."""

from collections.abc import Iterator, Sequence

import numpy as np

from npmobilenet.types import Outputs


def concatenated(batches: Sequence[Outputs]) -> Outputs:
    """One batch of all images, from at least one batch of some of them."""
    if isinstance(batches[0], dict):
        return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    return np.concatenate(batches)


def rows(batch: Outputs) -> Iterator[Outputs]:
    """The output of each image: a row of the array, or a dict of a row of each array."""
    if not isinstance(batch, dict):
        return iter(batch)
    return (dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True))
