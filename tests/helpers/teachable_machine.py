"""A model in the structure of Teachable Machine's Keras exports, small."""

from typing import Any

from tests.helpers.keras_files import application

LABELS = ("Scissors", "Rock", "Paper")


def teachable_machine(tf_keras: Any) -> Any:
    """MobileNetV2 0.35 and pooling in one Sequential, two Dense layers in another, both in a third."""
    layers = tf_keras.layers
    base = application(tf_keras, "v2", include_top=False)
    features = tf_keras.Sequential([base, layers.GlobalAveragePooling2D()])
    head = [layers.Dense(20, activation="relu"), layers.Dense(len(LABELS), use_bias=False, activation="softmax")]
    return tf_keras.Sequential([features, tf_keras.Sequential(head)])
