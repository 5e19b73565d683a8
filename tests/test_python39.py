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
"""Python 3.9, the oldest that the README promises, can read the product. The tests themselves need 3.10."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")])
NEWER_KEYWORDS = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only"), ("bisect", "key"),
                  ("glob", "root_dir"), ("signature", "eval_str")}
NEWER_NAMES = {"pairwise", "bit_count", "hardlink_to", "TypeAlias", "ParamSpec", "aiter", "anext", "StrEnum", "tomllib",
               "ExceptionGroup", "batched", "stdlib_module_names", "add_note", "file_digest", "UTC", "Self"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_python39_can_read_it(file):
    for node in ast.walk(ast.parse(file.read_text("utf-8"), feature_version=(3, 9))):
        names = {getattr(node, field, None) for field in ("id", "attr", "name", "module")}
        assert not names & NEWER_NAMES, f"line {node.lineno}"
        if isinstance(node, ast.Call):
            called = getattr(node.func, "attr", getattr(node.func, "id", None))
            assert not {(called, keyword.arg) for keyword in node.keywords} & NEWER_KEYWORDS, f"line {node.lineno}"
        annotation = getattr(node, "annotation", None)
        unions = [each for each in ast.walk(annotation) if isinstance(each, ast.BinOp)] if annotation else []
        assert not unions, f"line {node.lineno}: X | Y of types"
