"""The scikit-learn transformer computes the model's features, and trains in a pipeline."""

import numpy as np
import pytest

from npmobilenet.hub.load import load
from tests.helpers.real_files import ROOT

pytest.importorskip("sklearn", reason="trains with scikit-learn: pip install npmobilenet[sklearn]")

PATHS = [str(ROOT / "examples" / "digits" / f"{digit}.png") for digit in range(10)]


def test_the_transformer_computes_the_features() -> None:
    from sklearn.base import clone

    from npmobilenet.sklearn import MobileNetFeatures

    transformer = clone(MobileNetFeatures("digits"))
    x = transformer.fit_transform(PATHS)
    np.testing.assert_allclose(x, load("digits").features(PATHS), rtol=1e-5, atol=1e-5)
    name = load("digits").graph.layers[1].name
    assert MobileNetFeatures("digits", layer=name).transform(PATHS[:2]).ndim == 2


def test_a_classifier_of_parity_is_trained() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from npmobilenet.sklearn import MobileNetFeatures

    parity = [digit % 2 for digit in range(10)]
    classifier = make_pipeline(MobileNetFeatures("digits"), LogisticRegression(max_iter=1000))
    assert classifier.fit(PATHS, parity).score(PATHS, parity) == 1.0
