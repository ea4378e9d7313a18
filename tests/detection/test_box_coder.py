"""The box coder, by hand, and where it is bounded."""

from math import exp

import numpy as np

from npmobilenet.detection.box_coder import clip_boxes, decode_tensorflow, decode_torchvision
from tests.helpers.tolerances import LARGE_FACTORS


def test_a_code_of_zero_is_the_anchor() -> None:
    zero = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(
        decode_tensorflow(zero, np.array([[0.5, 0.25, 0.5, 0.25]], np.float32)), [[0.25, 0.125, 0.75, 0.375]]
    )
    box = np.array([[8, 16, 40, 80]], np.float32)
    np.testing.assert_array_equal(decode_torchvision(zero, box), box)


def test_a_code_moves_by_a_tenth_of_the_anchor_and_grows_by_a_power_of_e() -> None:
    y, x, h, w = 2.0, -1.0, 1.5, -2.5
    center_y, center_x = 0.5 + y / 10 * 0.5, 0.25 + x / 10 * 0.25
    high, wide = 0.5 * exp(h / 5), 0.25 * exp(w / 5)
    expected = [center_y - high / 2, center_x - wide / 2, center_y + high / 2, center_x + wide / 2]
    found = decode_tensorflow(np.array([[y, x, h, w]], np.float32), np.array([[0.5, 0.25, 0.5, 0.25]], np.float32))
    np.testing.assert_allclose(found[0], expected, rtol=LARGE_FACTORS)
    corners = np.array([[0.25 - 0.125, 0.25, 0.25 + 0.125, 0.75]], np.float32)  # the same anchor
    found = decode_torchvision(np.array([[x, y, w, h]], np.float32), corners)
    np.testing.assert_allclose(found[0], [expected[1], expected[0], expected[3], expected[2]], rtol=LARGE_FACTORS)


def test_wild_codes_stay_without_a_warning_and_torchvision_bounds_them() -> None:
    wild = np.array([[3e38, -3e38, 3e38, 1e9]], np.float32)
    assert not np.isfinite(decode_tensorflow(wild, np.array([[0.5, 0.5, 1, 1]], np.float32))).all()
    found = decode_torchvision(np.array([[0, 0, 1e9, 0]], np.float32), np.array([[0, 0, 16, 16]], np.float32))
    np.testing.assert_allclose(found[0, 2] - found[0, 0], 1000, rtol=LARGE_FACTORS)


def test_boxes_are_clipped_to_the_image() -> None:
    boxes = np.array([[-5, 3, 12, 30]], np.float32)
    np.testing.assert_array_equal(clip_boxes(boxes, 20, 10), [[0, 3, 10, 20]])
