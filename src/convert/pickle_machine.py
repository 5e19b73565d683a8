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
"""A stack machine for the pickles inside PyTorch's files, which runs nothing that a pickle asks for.

A pickle is a program. This one never reaches Python's `pickle`: only instructions that make data are evaluated, over
numbers, strings, lists, tuples, dicts and the inert records below. A class or function is its name and no more, so
there is nothing among the values to call or to import. A hostile pickle can describe another state dict, and do
nothing else.

Source: `torch/_utils.py` of PyTorch 0.4 to 2.13 and `utils/storage.py` of torch_npu for what is called, Python's
`pickletools` for the instructions.
"""
import pickletools
from dataclasses import dataclass, field

from ..errors import UserError

STORAGE_DTYPES = {
    "FloatStorage": "<f4", "DoubleStorage": "<f8", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
    "ComplexFloatStorage": "<c8", "ComplexDoubleStorage": "<c16", "LongStorage": "<i8", "IntStorage": "<i4",
    "ShortStorage": "<i2", "CharStorage": "<i1", "ByteStorage": "<u1", "BoolStorage": "<u1", "QInt8Storage": "<i1",
    "QUInt8Storage": "<u1", "QInt32Storage": "<i4", "UntypedStorage": "<u1",
}

_LITERALS = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT", "BINSTRING", "SHORT_BINSTRING", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
# Functions that PyTorch and torch_npu name in the place of a tensor, in whatever module of theirs.
_TENSORS = {"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_npu_tensor"}
_PARAMETERS = {"_rebuild_parameter", "_rebuild_parameter_with_state"}
_SUBCLASSES = {"_rebuild_from_type", "_rebuild_from_type_v2"}
# Each can take some 500 bytes of memory and 2 microseconds. An Adder ResNet-20 takes 5 thousand.
_MAX_INSTRUCTIONS = 10 ** 6
_MAX_DIMENSIONS = 8
_MAX_COUNT = 2 ** 40
_MAX_NAME = 1000


@dataclass(frozen=True)
class Global:
    """The name of a class or function. It stands for the thing and is never looked up."""
    name: str


@dataclass(eq=False)
class Record:
    """An object of a class that is not known here, or the result of such a function: what a pickle says of it.

    Attributes:
        name: of the class or function.
        items: what it holds under strings, if it is a kind of dict.
        state: its attributes, mostly a dict.
    """
    name: str
    items: dict = field(default_factory=dict)
    state: object = None


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

        Returns:
            The value: numbers, strings, bytes, lists, tuples, dicts and the records of this module. A dict has what
            the pickle's has under strings, since nothing else is the name of a tensor.

        Raises:
            UserError: an instruction that is not data, or too many of them.
            Exception: of many types, out of a damaged pickle.
        """
        for count, (instruction, argument, _) in enumerate(pickletools.genops(stream)):
            if count == _MAX_INSTRUCTIONS:
                raise UserError("its pickle is too long for a checkpoint")
            if instruction.name == "STOP":
                return self._stack.pop()
            self._execute(instruction.name, argument)

    def _execute(self, name, argument):
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            pass
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._pop_marked()))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(self._pop(int(name[-1]))))
        elif name == "APPEND":
            items = self._pop(1)
            _extend(stack[-1], items)
        elif name == "APPENDS":
            items = self._pop_marked()
            _extend(stack[-1], items)
        elif name == "SETITEM":
            items = self._pop(2)
            _set_items(stack[-1], [items])
        elif name == "SETITEMS":
            items = self._pop_marked()
            if len(items) % 2:
                raise ValueError("a key without a value")
            _set_items(stack[-1], zip(items[::2], items[1::2]))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        else:
            self._execute_object(name, argument)

    def _execute_object(self, name, argument):
        """The instructions with which a pickle imports, calls and sets attributes: none of which happens."""
        stack = self._stack
        if name == "GLOBAL":
            stack.append(_global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_global(*self._pop(2)))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            stack.append(_construct(checked(function, Global).name, checked(arguments, tuple)))
        elif name == "NEWOBJ":
            kind, _ = self._pop(2)
            stack.append(Record(checked(kind, Global).name))
        elif name == "BUILD":
            state = stack.pop()
            # The attributes of a dict, such as `_metadata`, are not needed.
            if type(stack[-1]) is Record:
                stack[-1].state = state
            else:
                checked(stack[-1], dict)
        elif name == "EMPTY_SET":
            stack.append(Record("builtins.set"))
        elif name == "ADDITEMS":
            self._pop_marked()
            checked(stack[-1], Record)
        elif name == "FROZENSET":
            self._pop_marked()
            stack.append(Record("builtins.frozenset"))
        elif name == "BINPERSID":
            stack.append(self._refer(checked(stack.pop(), tuple)))
        else:
            raise UserError(f"uses the pickle instruction {name} {shown(argument)}, which is refused and was not run")

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
        """Persistent identifier -> what it stands for.

        ("storage", type, key, location, numel[, view]) -> `StorageView`, wherever the storage was. ("module", class,
        source file, source), which stands in pickled networks of PyTorch 0.4 to 1.13, -> the class.
        """
        if len(identifier) == 4 and identifier[0] == "module":
            return checked(identifier[1], Global)
        kind, storage_type, key, _, numel, view = identifier if len(identifier) == 6 else (*identifier, None)
        storage_type = checked(storage_type, Global).name.rpartition(".")[2]
        if kind != "storage" or storage_type not in STORAGE_DTYPES:
            raise UserError(f"refers to {shown(storage_type)}, which is no storage of numbers")
        start, view_numel = 0, _count(numel)
        # Only in the legacy format.
        if view is not None:
            _, start, view_numel = view
        if _count(start) + _count(view_numel) > numel:
            raise ValueError("a view outside its storage")
        declared = (storage_type, numel)
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


def _global(module, name):
    if len(checked(module, str)) + len(checked(name, str)) > _MAX_NAME:
        raise ValueError("a name beyond reason")
    return Global(f"{module}.{name}")


def _construct(name, arguments):
    """What the call of a function stands for."""
    function = name.rpartition(".")[2]
    if function == "OrderedDict" and not arguments:
        return {}
    # Python 2 passes the items. They move: a hostile pickle could ask for a million copies of a long list.
    if function == "OrderedDict" and len(arguments) == 1 and type(arguments[0]) is list:
        result = {}
        _set_items(result, arguments[0])
        arguments[0].clear()
        return result
    if function in _PARAMETERS:
        return arguments[0]
    if function in _SUBCLASSES:
        function, arguments = checked(arguments[0], Global).name.rpartition(".")[2], checked(arguments[2], tuple)
    # Flags, if there are any, say that the stored numbers are to be negated or conjugated.
    flags = function == "_rebuild_tensor_v2" and any(arguments[6:])
    if function in _TENSORS and not flags:
        return _tensor(*arguments[:4])
    return Record(name)


def _tensor(storage, offset, size, stride):
    numel = checked(storage, StorageView).numel
    if len(checked(size, tuple)) != len(checked(stride, tuple)) or len(size) > _MAX_DIMENSIONS:
        raise ValueError("a tensor of odd dimensions")
    last = _count(offset) + sum((_count(length) - 1) * _count(step) for length, step in zip(size, stride))
    if 0 not in size and last >= numel:
        raise ValueError("a tensor that reaches outside its storage")
    return TensorView(storage, offset, size, stride)


def _extend(target, items):
    """Append to a list; what a record holds by number is not needed."""
    if type(target) is not Record:
        checked(target, list).extend(items)


def _set_items(target, items):
    """Set those (key, value) pairs whose keys are strings: nested tuples can take for ever to hash."""
    target = target.items if type(target) is Record else checked(target, dict)
    for key, value in items:
        if type(key) is str:
            target[key] = value


def _count(value):
    if not 0 <= checked(value, int) <= _MAX_COUNT:
        raise ValueError("a size that is negative or beyond reason")
    return value
