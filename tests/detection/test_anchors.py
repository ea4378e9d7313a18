"""Anchors, against counts, by hand, and torchvision's own."""

from math import sqrt

import numpy as np
import pytest

from npmobilenet.detection.anchors import tensorflow_anchors, torchvision_anchors
from tests.helpers.real_files import real_file

MAPS_300 = ((19, 19), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))
MAPS_320 = ((20, 20), (10, 10), (5, 5), (3, 3), (2, 2), (1, 1))


@pytest.mark.parametrize(("maps", "count"), [(MAPS_300, 1917), (MAPS_320, 2034)])
def test_tensorflow_has_as_many_anchors_as_published(maps: tuple[tuple[int, int], ...], count: int) -> None:
    anchors = tensorflow_anchors(maps)
    assert anchors.shape == (count, 4)
    assert anchors.dtype == np.float32


def test_tensorflow_s_anchors_by_hand() -> None:
    anchors = tensorflow_anchors(MAPS_300).astype(np.float64)
    first = [[0.5 / 19, 0.5 / 19, s / sqrt(r), s * sqrt(r)] for s, r in ((0.1, 1), (0.2, 2), (0.2, 0.5))]
    np.testing.assert_allclose(anchors[:3], first, rtol=1e-7)
    np.testing.assert_allclose(anchors[3, :2], [0.5 / 19, 1.5 / 19], rtol=1e-7)  # along the row first
    last = [[0.5, 0.5, 0.95 / sqrt(r), 0.95 * sqrt(r)] for r in (1, 2, 0.5, 3, 0.3333)]
    np.testing.assert_allclose(anchors[-6:], [*last, [0.5, 0.5, sqrt(0.95), sqrt(0.95)]], rtol=1e-7)


def test_a_map_need_not_be_square() -> None:
    anchors = tensorflow_anchors([(2, 3), *MAPS_300[1:]])
    assert len(anchors) == 2 * 3 * 3 + sum(6 * H * W for H, W in MAPS_300[1:])
    np.testing.assert_allclose(anchors[3:9:3, :2], [[0.25, 0.5], [0.25, 2.5 / 3]], rtol=1e-7)


def test_torchvision_s_anchors_are_equal_to_the_bit() -> None:
    expected = np.load(real_file("detection", "torchvision_ssdlite320.npz"))["anchors"]
    np.testing.assert_array_equal(torchvision_anchors(MAPS_320, 320, 320), expected)
