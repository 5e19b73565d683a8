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
import re

import yaml

from .errors import UserError, quote


LARGEST = 32_768  # bytes; the largest file of options here has a third of it


class _Loader(yaml.SafeLoader):
    """Takes no aliases, a few of which in each other are a value without end, no key twice, and of numbers only those
    that everybody reads alike: 010 and 1:30, which are 8 and 90 in YAML 1.1, are text."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases such as *{self.peek_event().anchor} are not taken")
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key {quote(twice)} is there twice")
        return super().construct_mapping(node, deep)


ODD_NUMBER = re.compile(r"[-+]?(0[0-9_]+|[0-9_]+(:[0-9_]+)+(\.[0-9_]*)?)")
_Loader.yaml_implicit_resolvers = {first: [("tag:yaml.org,2002:str", ODD_NUMBER), *resolvers] for first, resolvers
                                   in yaml.SafeLoader.yaml_implicit_resolvers.items()}


def documents(path):
    """The documents of a file, as dictionaries.

    Args:
        path (Path): the file.

    Returns:
        list[dict], at least one.

    Raises:
        UserError: it cannot be read, is larger than 32 KiB, or holds anything else.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"more than {LARGEST} bytes are no options")
        found = list(yaml.load_all(content.decode("utf-8"), _Loader))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # pylint: disable=broad-except
        # PyYAML raises nearly any exception over values that their tags do not fit.
        raise UserError(f"cannot read {path}: {' '.join(str(error).split()) or type(error).__name__}") from error
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
