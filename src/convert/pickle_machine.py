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
"""A stack machine for the pickles inside PyTorch's state dicts, which runs nothing that a pickle asks for.

A pickle is a program. This one never reaches Python's `pickle`: only the instructions that a state dict needs are
evaluated, over numbers, strings, lists, tuples, dicts and the three inert records below. There is nothing among them to
call, to import or to set an attribute on, so a hostile pickle can do no more than describe another state dict.

Source: `torch/_utils.py` of PyTorch 0.4 to 2.13 for what is called, Python's `pickletools` for the instructions.
"""
import pickletools
from dataclasses import dataclass

from src.errors import UserError

ADVICE = "only state dicts are read: torch.save(net.state_dict(), ...)"
STORAGE_DTYPES = {
    "torch.FloatStorage": "<f4", "torch.DoubleStorage": "<f8", "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": "<u2", "torch.LongStorage": "<i8", "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2", "torch.CharStorage": "<i1", "torch.ByteStorage": "<u1", "torch.BoolStorage": "<u1",
}

_CONSTRUCTORS = {
    "collections.OrderedDict", "torch._utils._rebuild_parameter", "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
}
_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Each can take some 100 bytes of memory and 2 microseconds. An Adder ResNet-20 takes 5 thousand.
_MAX_INSTRUCTIONS = 10 ** 6
_MAX_DIMENSIONS = 8
_MAX_COUNT = 2 ** 40


@dataclass(frozen=True)
class Global:
    """The name of an allowed class or function. It stands for the thing and is never looked up."""
    name: str


@dataclass(frozen=True)
class StorageView:
    """`numel` elements of the storage named `key`, from element `start` on."""
    key: str
    start: int
    numel: int


@dataclass(frozen=True)
class TensorView:
    """A tensor over a storage, counted in elements. It lies inside the storage."""
    storage: StorageView
    offset: int
    size: tuple
    stride: tuple


class PickleMachine:
    """Evaluates one pickle.

    Attributes:
        storages (dict[str, tuple[str, int]]): key of each storage referred to -> its type, a key of `STORAGE_DTYPES`,
            and its number of elements.
    """

    def __init__(self):
        self.storages = {}
        self._stack = []
        self._marks = []
        self._memo = {}

    def load(self, stream):
        """Evaluate the pickle at a binary stream's position, and leave the stream right behind it.

        Raises:
            UserError: an instruction, class or function that no state dict needs.
            Exception: of many types, out of a damaged pickle.
        """
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MAX_INSTRUCTIONS:
                raise UserError("its pickle is too long for a state dict")
            if instruction.name == "STOP":
                return self._stack.pop()
            self._execute(instruction.name, argument)

    def _execute(self, name, argument):
        stack = self._stack
        match name:
            case "PROTO" | "FRAME":
                pass
            case _ if name in _LITERALS:
                stack.append(argument)
            case _ if name in _CONSTANTS:
                stack.append(_CONSTANTS[name])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_DICT":
                stack.append({})
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._pop_marked()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "APPEND":
                item = stack.pop()
                checked(stack[-1], list).append(item)
            case "APPENDS":
                items = self._pop_marked()
                checked(stack[-1], list).extend(items)
            case "SETITEM":
                item = self._pop(2)
                _set_items(stack[-1], [item])
            case "SETITEMS":
                items = self._pop_marked()
                _set_items(stack[-1], zip(items[::2], items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = stack[-1]
            case "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self._memo[argument])
            case _:
                self._execute_object(name, argument)

    def _execute_object(self, name, argument):
        """The instructions with which a pickle imports, calls and sets attributes."""
        stack = self._stack
        match name:
            case "GLOBAL":
                stack.append(_allowed(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                stack.append(_allowed(".".join(self._pop(2))))
            case "REDUCE":
                function, arguments = self._pop(2)
                stack.append(_construct(checked(function, Global).name, checked(arguments, tuple)))
            case "BUILD":
                # Attributes of a dict, such as `_metadata`. They are not needed, so they are not set.
                stack.pop()
                checked(stack[-1], dict)
            case "BINPERSID":
                stack.append(self._refer(checked(stack.pop(), tuple)))
            case _:
                raise UserError(f"uses the pickle instruction {name} {shown(argument)}, which is refused; {ADVICE}")

    def _pop(self, count):
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError("pop from an empty stack")
        del self._stack[-count:]
        return items

    def _pop_marked(self):
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _refer(self, identifier):
        """Persistent identifier ("storage", type, key, location, numel[, view]) -> `StorageView`."""
        kind, storage_type, key, _, numel, view = identifier if len(identifier) == 6 else (*identifier, None)
        if kind != "storage" or checked(storage_type, Global).name not in STORAGE_DTYPES:
            raise UserError(f"refers to something other than a storage of numbers; {ADVICE}")
        start, view_numel = 0, _count(numel)
        # Only in the legacy format.
        if view is not None:
            _, start, view_numel = view
        if _count(start) + _count(view_numel) > numel:
            raise ValueError("a view outside its storage")
        declared = (storage_type.name, numel)
        if self.storages.setdefault(checked(key, str), declared) != declared:
            raise ValueError("two types or sizes for one storage")
        return StorageView(key, start, view_numel)


def checked(value, kind):
    """The value, if it is of exactly this type.

    Raises:
        TypeError: it is not.
    """
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} in the place of {kind.__name__}")
    return value


def shown(value):
    """A short, printable form of something out of a file."""
    return ascii(str(value)[:100])


def _allowed(name):
    if name not in _CONSTRUCTORS and name not in STORAGE_DTYPES:
        raise UserError(f"asks for {shown(name)}, which is refused and was not run; {ADVICE}")
    return Global(name)


def _construct(name, arguments):
    """What the call of an allowed function stands for."""
    match name, arguments:
        case "collections.OrderedDict", ():
            return {}
        # Python 2 passes the items. They move: a hostile pickle could ask for a million copies of a long list.
        case "collections.OrderedDict", (list() as items,):
            result = _set_items({}, items)
            items.clear()
            return result
        case "torch._utils._rebuild_tensor", (storage, offset, size, stride):
            return _tensor(storage, offset, size, stride)
        case "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, _, _):
            return _tensor(storage, offset, size, stride)
        # Flags, if there are any, say that the stored numbers are to be negated or conjugated.
        case "torch._utils._rebuild_tensor_v2", (storage, offset, size, stride, _, _, flags) if not flags:
            return _tensor(storage, offset, size, stride)
        case "torch._utils._rebuild_parameter", (tensor, *_):
            return checked(tensor, TensorView)
    raise UserError(f"calls {name} in a way that no state dict needs; {ADVICE}")


def _tensor(storage, offset, size, stride):
    numel = checked(storage, StorageView).numel
    if len(checked(size, tuple)) != len(checked(stride, tuple)) or len(size) > _MAX_DIMENSIONS:
        raise ValueError("a tensor of odd dimensions")
    last = _count(offset) + sum((_count(length) - 1) * _count(step) for length, step in zip(size, stride))
    if 0 not in size and last >= numel:
        raise ValueError("a tensor that reaches outside its storage")
    return TensorView(storage, offset, size, stride)


def _set_items(target, items):
    """Set (key, value) pairs of a dict. A tuple as key is refused: nested ones can take for ever to hash."""
    checked(target, dict)
    for key, value in items:
        if type(key) not in (str, int):
            raise UserError(f"holds a dict with keys of type {type(key).__name__}; {ADVICE}")
        target[key] = value
    return target


def _count(value):
    if not 0 <= checked(value, int) <= _MAX_COUNT:
        raise ValueError("a size that is negative or beyond reason")
    return value
