"""The self-check: it passes on the file as written, and names the layer that has changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from npmobilenet.errors import WeightsError
from npmobilenet.models.model import Model
from tests.helpers.models import some_model


def test_an_unchanged_file_passes_its_self_check(saved: Path) -> None:
    assert Model.open(saved).failed_checks() == []


@pytest.mark.parametrize("array", ["conv_dw_3/kernel", "conv_pw_9_bn/moving_mean"])
def test_the_self_check_names_the_layer_where_two_channels_are_swapped(saved: Path, array: str) -> None:
    model = Model.open(saved)
    weights = model.params[array].copy()
    axis = 2 if weights.ndim == 4 else 0
    changed = dict(model.params) | {array: np.flip(weights, axis)}
    assert replace(model, params=changed).failed_checks()[0] == array.partition("/")[0]


def test_a_model_that_came_from_no_file_has_no_stored_self_check() -> None:
    with pytest.raises(WeightsError, match="no stored self-check"):
        some_model().failed_checks()
