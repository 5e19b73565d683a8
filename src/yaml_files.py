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
"""YAML files of `key: value` lines, and those that runs of older versions have left."""
import yaml

from src.errors import UserError


def documents(path):
    """The documents of a file, as dictionaries.

    Args:
        path (Path): the file.

    Returns:
        list[dict], at least one.

    Raises:
        UserError: it cannot be read, or holds anything else.
    """
    try:
        found = list(yaml.safe_load_all(path.read_text("utf-8")))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not found or not all(isinstance(document, dict) for document in found):
        raise UserError(f"{path}: expected `key: value` lines")
    return found


def values(path):
    """The values of a file, those of its first document, under the names that they have today. Raises UserError.

    Files of older versions have a bool `progressive` for today's `weight_gradient`, and no `method`: who had a teacher
    learned from it.
    """
    found = documents(path)[0]
    if isinstance(found.get("progressive"), bool):
        found.setdefault("weight_gradient", "progressive" if found.pop("progressive") else "full")
        found.setdefault("method", "alone" if found.get("teacher", "none") == "none" else "ngd")
    return found
