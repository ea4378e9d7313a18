"""Packed layouts hold the same values as the arrays they come from."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels.runtime.packing import from_blocks, to_blocks

from tests.helpers.kernel_calls import normal
from tests.helpers.strategies import SEEDS


@given(st.tuples(*[st.integers(1, 9)] * 2, st.integers(1, 40)), st.sampled_from([4, 8, 16]), SEEDS)
def test_blocks_are_the_same_values_in_another_order(shape: tuple[int, int, int], width: int, seed: int) -> None:
    x = normal(np.random.default_rng(seed), *shape)
    blocks = to_blocks(x, width)
    back = from_blocks(blocks, shape)
    np.testing.assert_array_equal(back, x)
    assert not np.shares_memory(back, blocks)
