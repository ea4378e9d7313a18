"""Mistakes of a port that shares no code with the explanations: layer and cause are named, or what is known is said."""

import os
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from npmobilenet.porting.diagnose import Diagnosis, diagnose
from npmobilenet.types import Array
from tests.helpers import careless_port
from tests.helpers.careless_port import BEFORE
from tests.porting.careless import Row, measured, network

NIGHTLY = bool(os.environ.get("NPMOBILENET_NIGHTLY"))


@cache
def measurement() -> tuple[dict[str, Row], list[str]]:
    """All kinds in all networks, or every fifth kind in one."""
    return measured(2) if NIGHTLY else measured(1, families=("V2",), every=5)


@pytest.mark.parametrize("which", ["before", "after"])
def test_layer_and_cause_are_named(which: str) -> None:
    rows, misses = measurement()
    of_set = [row for row in rows.values() if row.set == which]
    made, layers, causes = (sum(getattr(row, field) for row in of_set) for field in ("made", "layers", "causes"))
    assert len(of_set) >= (30 if NIGHTLY else 7)
    assert made >= len(of_set) * 0.7
    assert layers >= 0.99 * made, misses
    assert causes >= 0.85 * made, misses
    assert sum(row.others for row in of_set) == 0


def test_every_kind_is_made_somewhere() -> None:
    for kind in BEFORE.values():
        assert any(
            kind.where(network(family)[0].graph, y) for family in ("V1", "V2", "V3") for y in graph_layers(family)
        )


def graph_layers(family: str) -> tuple[object, ...]:
    return network(family)[0].graph.layers[1:]


def wrong(function: object, at: str = "block_5_expand_BN", family: str = "V2", seconds: float = 30) -> Diagnosis:
    """The diagnosis of a port that does `function` to a layer's output, and goes on from there."""
    model, x, _ = network(family)
    kind = careless_port.kind(lambda graph, layer: True, lambda here: function(here.right()))  # type: ignore[operator]
    return diagnose(model, x, careless_port.run(model.graph, model.params, x, kind, at), seconds=seconds)


def noisy(y: Array) -> Array:
    changed = y.copy()
    changed[:, 1:3, :, 4:6] += np.random.default_rng(0).normal(size=changed[:, 1:3, :, 4:6].shape)
    return changed


def test_where_nothing_fits_it_is_said_where_the_difference_is() -> None:
    (found,) = wrong(noisy).wrong
    assert not found.explained
    text = "\n".join(found.facts)
    assert "2 of 8 rows differ: 1, 2" in text
    assert "2 of 96 channels differ: 4, 5" in text
    assert len([line for line in found.facts if line.startswith("at [")]) == 5
    assert "from block_5_expand = " in text
    assert found.facts[-1].startswith("dump next: what the port passes to block_5_expand_BN")


def by_channel(y: Array) -> Array:
    return y + np.random.default_rng(0).normal(size=y.shape[-1])


def times_by_channel(y: Array) -> Array:
    return y * np.random.default_rng(0).uniform(0.5, 2, y.shape[-1])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (by_channel, "the difference is constant in each channel"),
        (times_by_channel, "each channel is a multiple of the expected one"),
    ],
)
def test_a_difference_by_channel_is_described(function: object, said: str) -> None:
    (found,) = wrong(function).wrong
    assert any(line.startswith(said) for line in found.facts), found


def border(y: Array) -> Array:
    changed = y + np.random.default_rng(0).normal(size=y.shape)
    changed[:, 1:-1, 1:-1] = y[:, 1:-1, 1:-1]
    return changed


def test_a_difference_at_the_borders_is_described() -> None:
    assert "only at the borders" in wrong(border).wrong[0].facts


def above(y: Array) -> Array:
    return np.where(y > 1, y + np.random.default_rng(0).uniform(1, 2, y.shape), y)


def test_a_difference_above_a_value_is_described() -> None:
    assert any("only where the layer's output is above 1.0" in line for line in wrong(above).wrong[0].facts)


def test_a_factor_near_zero_is_no_explanation_and_what_does_not_fit_is_not_first() -> None:
    (found,) = wrong(lambda y: np.ones_like(y) + 1e-9 * y, at="predictions").wrong
    assert not any(explanation.cause == "scaled" for explanation in found.explanations)
    for finding in (found, *wrong(noisy).wrong):
        fits = [explanation.fits for explanation in finding.explanations]
        assert fits == sorted(fits, reverse=True)


def test_without_time_nothing_is_tried_and_the_layer_is_still_named() -> None:
    (found,) = wrong(noisy, seconds=0).wrong
    assert found.layer == "block_5_expand_BN"
    assert found.explanations == ()
    assert found.untried
    assert found.facts


def test_the_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on by a hundredth of a second whenever it is read."""
    from npmobilenet.porting.diagnose import explain

    now = iter(np.arange(0, 1e5, 0.01))
    monkeypatch.setattr(explain, "monotonic", lambda: float(next(now)))
    much, little = wrong(noisy, seconds=1e4).wrong[0], wrong(noisy, seconds=1).wrong[0]
    assert much.untried == 0
    assert little.untried > 0


def test_a_fitted_number_is_in_the_explanation() -> None:
    model, x, _ = network("V2")
    kind = replace(
        BEFORE["leaky relu"], make=lambda here: np.where(here.xs[0] < 0, np.float32(0.137) * here.xs[0], here.right())
    )
    (found,) = diagnose(model, x, careless_port.run(model.graph, model.params, x, kind, "block_3_expand_relu")).wrong
    assert found.explanations[0].what == "leaky: negative values times 0.137 instead of relu6"
