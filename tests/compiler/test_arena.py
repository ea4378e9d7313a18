"""Memory: values that live at once never share bytes, and packed weights keep their place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from npmobilenet_kernels.runtime.packing import pack_matrix

from npmobilenet.compiler.arena import ALIGNMENT, PackedWeights, allocate

VALUES = st.lists(st.tuples(st.integers(1, 99), st.integers(0, 9), st.integers(0, 5)), max_size=12)


@given(VALUES, st.sampled_from([1, 4, 16]))
def test_values_that_live_at_once_never_share_memory(values: list[tuple[int, int, int]], align: int) -> None:
    sizes = {str(i): size for i, (size, _, _) in enumerate(values)}
    lives = {str(i): (first, first + length) for i, (_, first, length) in enumerate(values)}

    offsets, total = allocate(sizes, lives, align)

    for one in sizes:
        assert 0 <= offsets[one] <= total - sizes[one]
        assert offsets[one] % align == 0
        for other in sizes:
            apart = offsets[one] + sizes[one] <= offsets[other] or offsets[other] + sizes[other] <= offsets[one]
            together = lives[one][0] <= lives[other][1] and lives[other][0] <= lives[one][1]
            assert one == other or apart or not together
    assert total >= max((sum(sizes[n] for n in sizes if lives[n][0] <= t <= lives[n][1]) for t in range(15)), default=0)


def test_memory_is_used_again_after_its_last_consumer() -> None:
    assert allocate({"a": 8, "b": 8, "c": 8}, {"a": (0, 1), "b": (1, 2), "c": (2, 3)}) == (
        {"a": 0, "b": 8, "c": 0},
        16,
    )


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([(3, 3, 5), (2, 1, 3), (3, 4, 5), (4, 2, 2)], 6),  # largest first, of equal ones the earlier
        ([(2, 4, 6), (2, 2, 4), (3, 1, 3), (2, 4, 6)], 6),  # of equal ones the later
        ([(2, 2, 3), (3, 2, 2), (3, 4, 4), (2, 3, 5)], 5),  # by time
    ],
)
def test_the_best_of_three_orders_is_taken(values: list[tuple[int, int, int]], total: int) -> None:
    """(size, first, last) of values that fit best in one order only."""
    sizes = {number: size for number, (size, _, _) in enumerate(values)}
    lives = {number: (first, last) for number, (_, first, last) in enumerate(values)}
    assert allocate(sizes, lives)[1] == total


def test_packed_weights_grow_where_their_capacity_is_too_small() -> None:
    weights = PackedWeights(64)
    arrays = [np.arange(n, dtype=np.float32) for n in (3, 40, 1, 200, 16)]

    offsets = [weights.add(array) for array in arrays]
    matrix = np.arange(300, dtype=np.float32).reshape(15, 20)
    arrays.append(pack_matrix(matrix, 8, 2))
    offsets.append(weights.add_matrix(matrix, 8, 2))

    packed = weights.packed
    assert packed.ctypes.data % ALIGNMENT == 0
    for array, offset in zip(arrays, offsets, strict=True):
        assert offset % ALIGNMENT == 0
        np.testing.assert_array_equal(packed[offset // 4 :][: array.size], array)
