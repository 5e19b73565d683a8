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
"""Where state dicts lie in what a PyTorch file holds: alone, in a training checkpoint, or inside a pickled network."""
import re

from .pickle_machine import Record, TensorView, shown
from ..errors import UserError

_PARTS = ("_parameters", "_buffers", "_modules")  # the attributes of a module that hold its state
_LONGEST = 300  # characters of a name with its path


def find(root, key=None):
    """The tensors of one state dict.

    Args:
        root: what `PickleMachine.load` returned.
        key (str): takes only the tensors whose names begin with it and a dot; if None, there must be one state dict.

    Returns:
        dict[str, TensorView] in the order of the file. A name begins with the keys under which the state dict lies,
        as `state_dict.module.conv1.weight`.

    Raises:
        UserError: no state dict or several, nothing under the key, a name or a value that no state dict has.
    """
    found = list(_search(root))
    if not found and (type(root) is not dict or not root):
        raise UserError(f"holds a value of type {_kind(root)} and no state dict in it")
    found = found or [("", root)]
    if len(found) > 1 and key is None:
        paths = ", ".join(shown(path) for path, _ in found[:4])
        raise UserError(f"holds {len(found)} state dicts: --key chooses one of {paths}{', ...' * (len(found) > 4)}")
    named = [(name, value) for name, value in _named(found) if key is None or name.startswith(f"{key}.")]
    if not named:
        raise UserError(f"holds nothing under {shown(key)}; its first tensor is {shown(next(_named(found))[0])}")
    for name, value in named:
        if type(value) is not TensorView:
            raise UserError(f"holds a value of type {_kind(value)} under {shown(name)}, where a tensor belongs")
        if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
            raise UserError(f"holds a tensor with the odd name {shown(name)}")
    if len(dict(named)) < len(named):
        raise UserError(f"holds two tensors of one name under {shown(key)}")
    return dict(named)


def _search(root):
    """Pairs of a path and a state dict, from the outside in. Everything is looked at once, so cycles end too."""
    level, seen = [("", root)], set()
    while level:
        deeper = []
        for path, value in level:
            tensors = dict(_tensors(value, "", seen)) if _is_module(value) else _items(value)
            if any(type(tensor) is TensorView and "." in name[:_LONGEST] for name, tensor in tensors.items()):
                yield path, tensors
                continue
            for name, child in _children(value):
                if id(child) not in seen and len(path) + len(name) < _LONGEST:
                    seen.add(id(child))
                    deeper.append((_join(path, name), child))
        level = deeper


def _children(value):
    """Pairs of a name and what a value holds that can hold more; of a module, whose state is known, nothing."""
    if _is_module(value):
        return []
    if type(value) in (list, tuple):
        inside = [(str(index), child) for index, child in enumerate(value)]
    else:
        inside = [*_items(value).items(), ("", getattr(value, "state", None))]
    return [(name, child) for name, child in inside if type(child) in (dict, list, tuple, Record)]


def _items(value):
    return value.items if type(value) is Record else value if type(value) is dict else {}


def _is_module(value):
    state = value.state if type(value) is Record else None
    return type(state) is dict and all(type(state.get(part)) is dict for part in _PARTS)


def _tensors(module, path, seen):
    """What `module.state_dict()` would give, but for modules that stand in two places: they are in the first alone."""
    for part in _PARTS:
        inside = module.state[part]
        if id(inside) not in seen:
            seen.add(id(inside))
            for name, value in inside.items():
                name = _join(path, name)
                if _is_module(value):
                    yield from _tensors(value, name, seen)
                elif value is not None:
                    yield name, value


def _named(found):
    for path, state in found:
        for name, value in state.items():
            yield _join(path, name), value


def _join(path, name):
    if len(path) + len(name) > _LONGEST:
        raise UserError(f"holds the odd name {shown(name)}")
    return f"{path}.{name}" if path and name else path or name


def _kind(value):
    """The type of a value; of a record, the class that the file names."""
    return ascii(value.name) if type(value) is Record else type(value).__name__
