# Copyright 2026 The AdderNGD for MindSpore Authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
# http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
# ============================================================================
"""The import graph of the house: a tree that can be read from the top down."""
import ast
import graphlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules():
    """Name of every module of src to its file."""
    found = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path, known):
    """Modules of src that a file imports, anywhere in it, all of them relative: `pip install` gives src another name."""
    found, folder = set(), path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            module = ".".join((*folder[:len(folder) - node.level + 1], *filter(None, [node.module])))
            inner = {f"{module}.{alias.name}" for alias in node.names} & set(known)
            found |= inner or {module}
        elif isinstance(node, ast.ImportFrom):
            assert node.module.split(".")[0] != "src", path
    return found


def graph():
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def test_no_module_needs_itself():
    tuple(graphlib.TopologicalSorter(graph()).static_order())  # raises CycleError


def test_training_knows_neither_tasks_nor_networks():
    for name, needed in graph().items():
        if name.startswith("src.training"):
            assert not any(other.startswith(("src.tasks", "src.networks", "src.data", "src.distill")) for other in needed)


def test_only_kernels_know_which_backend_there_is():
    inside = {"src.kernels.build", "src.kernels.composed", "src.kernels.operations"}
    for name, needed in graph().items():
        assert name.startswith("src.kernels") or not needed & inside, name


def test_the_ground_stands_alone():
    assert all(graph()[name] <= {"src.errors"} for name in ("src.errors", "src.files"))


def test_no_table_is_filled_by_importing():
    """Tables are dicts that stand in one place: no decorator, no registry."""
    for path in modules().values():
        text = path.read_text("utf-8")
        assert "def register" not in text and "import_module(" not in text or path.name == "config.py", path


def test_pip_installs_every_folder():
    packages = {"src", *(f"src.{path.parent.name}" for path in (ROOT / "src").glob("*/__init__.py"))}
    named = re.findall(r'"adderngd([\w.]*)"[,\]]', (ROOT / "pyproject.toml").read_text("utf-8"))
    assert {f"src{name}" for name in named} == packages
