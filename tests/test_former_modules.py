"""Former module names still import, with a warning that names the present ones."""

import subprocess
import sys
import warnings
from importlib import import_module

import pytest

from npmobilenet.former_modules import PRESENT, RENAMED


@pytest.mark.parametrize("former", PRESENT)
def test_a_former_module_has_the_present_names_and_warns(former: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, f"npmobilenet.{former}", raising=False)
    with pytest.warns(
        DeprecationWarning, match=f"npmobilenet.{former} is now npmobilenet.{PRESENT[former][0]}"
    ) as seen:
        module = import_module(f"npmobilenet.{former}")
    assert len(seen) == 1
    for present in PRESENT[former]:
        for name, value in vars(import_module(f"npmobilenet.{present}")).items():
            if not name.startswith("_") and callable(value):
                assert getattr(module, name) is value
    for old, new in RENAMED.get(former, {}).items():
        assert getattr(module, old) is getattr(module, new)


DOCUMENTED = """
from npmobilenet.bottlenecks import fold_padding, linear_bottlenecks, materialised_channels, next_stage_channels
from npmobilenet.bounds import conv2d_bound, layer_bound, network_bounds
from npmobilenet.cost import CONVENTIONS, SeparableCost, cost_table
from npmobilenet.graph import ACTIVATIONS, LAYER_TYPES, Conv2D, Graph, Input, Layer
from npmobilenet.growth import error_growth
from npmobilenet.images import prepare
from npmobilenet.memory import POLICIES, Plan, memory_table, plan, run_in_arena
from npmobilenet.model import Model
from npmobilenet.ops import conv2d, depthwise_conv2d, pointwise_conv2d, squeeze_excite, taps
from npmobilenet.packs import Pack, write_pack
from npmobilenet.published import paper_tables
"""


@pytest.mark.parametrize("line", DOCUMENTED.strip().splitlines(), ids=lambda line: line.split()[1])
def test_imports_of_the_former_documentation_work(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, line.split()[1], raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        exec(line, {})


def test_the_warning_points_at_the_import() -> None:
    code = "import warnings\nwith warnings.catch_warnings(record=True) as seen:\n    warnings.simplefilter('always')\n"
    code += "    import npmobilenet.ops\nprint(seen[0].filename, seen[0].lineno)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "<string> 4"


def test_an_unknown_module_stays_unknown() -> None:
    with pytest.raises(ModuleNotFoundError):
        import_module("npmobilenet.nothing")
