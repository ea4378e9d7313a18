"""The command models: all published models with their costs."""

from tests.helpers.command_line import document, run


def test_all_44_models_are_listed_with_their_costs() -> None:
    answers = document(run("models", "--json"))
    assert len(answers) == 44
    v2 = next(answer for answer in answers if answer["model"] == "mobilenet_v2_1.0_224")
    assert (v2["macs"], v2["params"]) == (300_774_272, 3_538_984)
    assert v2["url"].endswith("mobilenet_v2/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224.h5")
    assert len(run("models").stdout.splitlines()) == 46
