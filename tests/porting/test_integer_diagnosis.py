"""Ports of quantized networks: honest ones raise no alarm; of wrong ones the layer and the mistake are named.

Three hundred mistakes and more are injected with NPMOBILENET_NIGHTLY=1, a part of them otherwise.
"""

import os
from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest
from npmobilenet_weights_convert.tflite_file import read_tflite
from PIL import Image

from npmobilenet.errors import ArgumentError
from npmobilenet.porting.diagnose.integer_walk import IntegerDiagnosis, diagnose_integers
from npmobilenet.quantized.parts import unique_names, without_post_processing
from npmobilenet.quantized.rules import RULES
from npmobilenet.quantized.running import trace
from npmobilenet.quantized.tensors import Network, Operator
from npmobilenet.types import Array
from tests.helpers.drawn_quantized import drawn_network
from tests.helpers.integer_port import mistakes_of, ported
from tests.helpers.real_files import real_file
from tests.oracles.litert import LiteRT
from tests.oracles.tflm import micro_tensors

NIGHTLY = bool(os.environ.get("NPMOBILENET_NIGHTLY"))
FILES = (
    "vww_96_int8", "mobilenet_v1_0.25_128_quant", "mobilenet_v3_small_1.0_224_uint8", "mobilenet_v2_1.0_224_int8",
    "mobilenet_v2_1.0_224_uint8", "ssd_mobilenet_v1_coco_uint8",
)  # fmt: skip
QUICK = FILES[:2]
PHOTOGRAPHS = ("panda.jpg", "cat.bmp", "parrot.jpg", "sunflower.bmp", "burger.jpg")
DRAWN = ("drawn 1", "drawn 2", "drawn 3", "drawn 4")
LARGE = FILES[3:5]
LAYERS_NAMED, CAUSES_NAMED = 0.98, 0.95


@cache
def network_of(name: str) -> Network:
    """A real file's network up to a detector's heads, or a drawn one."""
    if name in DRAWN:
        return drawn_network(DRAWN.index(name))
    return without_post_processing(read_tflite(real_file("tflite", f"{name}.tflite").read_bytes()))


def input_of(network: Network, photograph: str = PHOTOGRAPHS[0]) -> Array:
    """A photograph as integers of a network's input."""
    _, H, W, _ = network.input.shape
    with Image.open(real_file("images", photograph)) as image:
        pixels = np.asarray(image.convert("RGB").resize((W, H)))[None]
    return pixels if network.input.dtype == np.uint8 else (pixels ^ 0x80).view(np.int8)


def computed(network: Network, rule: str = "tflite") -> dict[str, Array]:
    """What an honest port makes, by name."""
    names = unique_names(network)
    return {names[op.outputs[0]]: y for op, y in trace(network, input_of(network), RULES[rule])}


def diagnosed(network: Network, dump: Mapping[str, Array], rule: str = "any") -> IntegerDiagnosis:
    return diagnose_integers(network, unique_names(network), input_of(network), dump, rule=rule)


@pytest.mark.parametrize("photograph", PHOTOGRAPHS if NIGHTLY else PHOTOGRAPHS[:1])
@pytest.mark.parametrize("name", FILES if NIGHTLY else (*QUICK, FILES[2]))
def test_no_alarm_on_litert(name: str, photograph: str) -> None:
    """The reference kernels and LiteRT's default, every tensor exposed."""
    network = network_of(name)
    names, x = unique_names(network), input_of(network, photograph)
    data = real_file("tflite", f"{name}.tflite").read_bytes()
    for reference, rule in ((True, "tflite"), (False, "xnnpack")):
        dump = {names[number]: y for number, y in LiteRT(data, reference=reference).tensors(x).items()}
        found = diagnose_integers(network, names, x, dump)
        assert found.exit_code == 0, found.first
        assert rule in found.exact_under
        assert len(found.compared) == len(network.operators)


def test_no_alarm_on_tensorflow_lite_micro() -> None:
    network = network_of(FILES[0])
    names, x = unique_names(network), input_of(network)
    data = real_file("tflite", f"{FILES[0]}.tflite").read_bytes()
    dump = {names[number]: y for number, y in micro_tensors(data, x).items()}
    found = diagnose_integers(network, names, x, dump)
    assert found.exit_code == 0
    assert "tflm" in found.exact_under


@pytest.mark.parametrize("name", (*FILES[:5], *DRAWN) if NIGHTLY else (QUICK[0], *DRAWN[:2]))
def test_injected_mistakes(name: str) -> None:
    """One operator of a port has a mistake; the layer is the first wrong one, the mistake explains every value."""
    network = network_of(name)
    names, x, right = unique_names(network), input_of(network), computed(network)
    possible = [(operator, *mistake) for operator in network.operators for mistake in mistakes_of(operator)]
    wanted = (30 if name in LARGE else 60) if NIGHTLY else 8
    tried = layers = causes = 0
    for k in np.random.default_rng(3).permutation(len(possible)):
        operator, mistake, cause = possible[k]
        dump = dump_with(network, x, operator, mistake)
        layer = names[operator.outputs[0]]
        if dump is None or np.array_equal(dump[layer], right[layer]):
            continue  # this mistake changes nothing here
        found = diagnosed(network, dump).first
        tried += 1
        if found is not None and found.layer == layer:
            layers += 1
            causes += cause in [explanation.cause for explanation in found.explanations if explanation.fits]
        if tried == wanted:
            break
    print(f"{name}: {tried} mistakes, {layers} layers and {causes} causes named")
    assert tried == wanted
    assert layers >= LAYERS_NAMED * tried
    assert causes >= CAUSES_NAMED * tried


def dump_with(network: Network, x: Array, operator: Operator, mistake: str) -> dict[str, Array] | None:
    """A port's tensors with a mistake in one operator; None where it cannot be made."""
    names = unique_names(network)
    try:
        return {names[op.outputs[0]]: y for op, y in ported(network, x, operator, mistake)}
    except ValueError:
        return None


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_of_a_port_is_named(rule: str) -> None:
    network = network_of(FILES[1])
    found = diagnosed(network, computed(network, rule))
    assert found.exit_code == 0
    assert rule in found.exact_under
    others = [name for name in RULES if name not in found.exact_under]
    assert others
    wrong = diagnosed(network, computed(network, rule), others[0])
    assert wrong.exit_code == 1
    assert wrong.first is not None
    assert wrong.first.layer == wrong.first_different[others[0]]
    assert wrong.first.explanations[0].cause.removeprefix("rule-") in wrong.exact_under


def test_one_layer_by_another_rule_among_right_ones() -> None:
    network = network_of(FILES[1])
    dump = computed(network)
    operator = network.operators[6]
    wrong = dump_with(network, input_of(network), operator, "single rounding")
    assert wrong is not None
    found = diagnosed(network, wrong)
    assert found.exact_under == ()
    assert found.rule == "tflite"
    assert found.first is not None
    assert found.first.layer == unique_names(network)[operator.outputs[0]]
    assert found.first.explanations[0].cause.startswith("rule-")
    assert {finding.status for finding in found.findings[7:]} <= {"inherits", "same"}
    assert len(dump) == len(found.findings)


def test_forms_of_dumps() -> None:
    """Channels first, the other 8-bit type, wide integers, real numbers: said, and no difference."""
    network = network_of(FILES[0])
    names, right = unique_names(network), computed(network)
    tensors = {name: network.tensors[names.index(name)] for name in right}
    assert network.input.dtype == np.int8
    forms = {
        "channels first": {n: np.moveaxis(y, -1, 1) if y.ndim == 4 else y for n, y in right.items()},
        "other 8-bit type": {n: (y.astype(int) + 128).astype(np.uint8) for n, y in right.items()},
        "wide": {n: y.astype(np.int32) for n, y in right.items()},
        "real numbers": {n: tensors[n].dequantize(y) for n, y in right.items()},
        "integers as float": {n: y.astype(np.float32) for n, y in right.items()},
        "without batch": {n: y[0] for n, y in right.items()},
    }
    for form, dump in forms.items():
        found = diagnosed(network, dump)
        assert found.exit_code == 0, form
        assert any(form in note for note in found.notes) == (
            form in ("channels first", "other 8-bit type", "real numbers")
        )


def test_layers_that_are_not_dumped_are_computed() -> None:
    """Every third tensor of a port with a mistake in between."""
    network = network_of(FILES[0])
    names = unique_names(network)
    kept = [names[operator.outputs[0]] for operator in network.operators][::3]
    right = computed(network, "single")
    found = diagnosed(network, {name: right[name] for name in kept})
    assert found.exit_code == 0
    assert "single" in found.exact_under
    operator = network.operators[4]
    dump = dump_with(network, input_of(network), operator, "no bias")
    assert dump is not None
    found = diagnosed(network, {name: dump[name] for name in kept})
    assert found.first is not None
    assert found.first.layer == kept[2]
    assert names[operator.outputs[0]] in found.first.covers
    assert found.first.explanations[0].cause == "missing-bias"
    assert found.first.explanations[0].layers == (names[operator.outputs[0]],)


def test_mistakes_in_the_image() -> None:
    network = network_of(FILES[1])
    names, x = unique_names(network), input_of(network)
    for cause, wrong in {"channel-order": x[..., ::-1], "off-by-128": x ^ 0x80, "image-axes": x[:, :, ::-1]}.items():
        dump = {names[op.outputs[0]]: y for op, y in trace(network, np.ascontiguousarray(wrong))}
        found = diagnosed(network, dump).first
        assert found is not None
        assert cause in [explanation.cause for explanation in found.explanations if explanation.fits]
        given = diagnosed(network, {names[network.inputs[0]]: wrong} | dump)
        assert given.wrong == given.findings[:1]
        assert given.findings[0].explanations[0].cause == cause


def test_arrays_that_do_not_fit() -> None:
    network = network_of(FILES[0])
    right = computed(network)
    name = list(right)[2]
    found = diagnosed(network, right | {name: right[name][..., :-1]})
    assert found.first is not None
    assert (found.first.layer, found.first.status) == (name, "shape")
    assert "expected shape" in found.first.note
    found = diagnosed(network, right | {name: right[name].astype(np.int32) * 1000})
    assert found.first is not None
    assert "expected integers from -128 to 127" in found.first.note
    assert diagnosed(network, {}).exit_code == 2
    with pytest.raises(ArgumentError, match="unknown rule"):
        diagnosed(network, right, "nearest")


def test_a_mistake_that_nobody_knows_is_found_but_not_named() -> None:
    network = network_of(FILES[0])
    right = computed(network)
    name = list(right)[3]
    odd = right[name].copy()
    odd[0, 1, 2, 3] += 1
    found = diagnosed(network, right | {name: odd}).first
    assert found is not None
    assert (found.layer, found.differing, found.largest, found.at) == (name, 1, 1, (1, 2, 3))
    assert not found.explained
