"""Former module names, which for one version still import what they did, with a DeprecationWarning."""

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any
from warnings import warn

PRESENT: dict[str, tuple[str, ...]] = {
    "bottlenecks": ("analysis.linear_bottlenecks", "reference.transforms"),
    "bounds": ("reference.rounding", "analysis.rounding_growth"),
    "builder": ("architectures.builder",),
    "cost": ("analysis.cost", "analysis.conventions", "analysis.separable_cost"),
    "detectors": ("architectures.ssd", "reference.transforms"),
    "engine": ("compiler.engine", "compiler.plan", "compiler.thread_count"),
    "graph": ("reference.graph", "reference.layer", "reference.layers", "reference.activations"),
    "growth": ("analysis.rounding_growth",),
    "images": ("models.preprocessing", "models.resizing"),
    "labels": ("models.labels",),
    "loading": ("hub.load",),
    "memory": ("analysis.memory_plan", "analysis.memory_steps", "analysis.arena_run"),
    "memory_views": ("analysis.memory_report",),
    "model": ("models.model", "models.preprocessing", "models.self_check"),
    "ops": ("reference",),
    "packs": ("porting.golden", "porting.golden_writer"),
    "published": ("analysis.published", "analysis.recounts", "analysis.paper_tables"),
    "registry": ("hub.published_models", "hub.cache"),
    "rivals": ("architectures.baselines",),
    "shapes": ("reference.shapes",),
    "verification": ("porting.verify",),
}
"""Present modules by former module, all without the leading `npmobilenet.`."""

RENAMED = {
    "bottlenecks": {"Bottleneck": "LinearBottleneck", "materialised_channels": "materialized_channels"},
    "memory": {"Plan": "MemoryPlan", "Step": "MemoryStep"},
    "model": {"made_up_pixels": "synthetic_image"},
    "packs": {"Pack": "GoldenData", "write_pack": "write_golden_data"},
}
"""Present names by former name, for each former module."""


class FormerModules:
    """A finder and loader of former modules, for the end of `sys.meta_path`: present modules never reach it."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """The spec of a former module, or None."""
        package, _, module = name.partition(".")
        return ModuleSpec(name, self) if package == "npmobilenet" and module in PRESENT else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> None:
        """None: an ordinary module object will do."""

    def exec_module(self, module: ModuleType) -> None:
        """Fill a former module with the public names of the present ones."""
        former = module.__name__.partition(".")[2]
        present = [f"npmobilenet.{name}" for name in PRESENT[former]]
        warn(f"{module.__name__} is now {', '.join(present)}", DeprecationWarning, stacklevel=2)
        names: dict[str, Any] = {}
        for name in present:
            names |= {key: value for key, value in vars(import_module(name)).items() if not key.startswith("_")}
        names |= {old: names[new] for old, new in RENAMED.get(former, {}).items()}
        vars(module).update(names)


def register() -> None:
    """Make former modules importable."""
    sys.meta_path.append(FormerModules())
