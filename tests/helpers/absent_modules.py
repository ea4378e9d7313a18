"""A fresh process in which some packages are not installed."""

import subprocess
import sys
from collections.abc import Collection

from tests.helpers.real_files import ROOT

FINDER = """
import sys
from importlib.abc import MetaPathFinder

class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def run_without(absent: Collection[str], program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository's root, where importing a package of `absent` fails."""
    text = FINDER.format(absent=sorted(absent)) + program
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
