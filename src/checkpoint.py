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
"""Checkpoints: written atomically with a checksum, found, and loaded strictly.

MindSpore's checksum finds every damage but one: a file that is cut off right behind an entry has lost its checksum too.
The entries that are gone are missed by whoever loads it. Only an identity is not, since older files have none; for that
reason it stands in front of other extras.
"""
import math
import re
import zipfile
from collections import Counter
from pathlib import Path

import mindspore as ms
import numpy as np
from google.protobuf.message import DecodeError
from mindspore.train.checkpoint_pb2 import Checkpoint

from .errors import UserError, quote, silence
from .files import replacing

# A published or best checkpoint: <model>_<dataset>_<accuracy * 10,000>.ckpt
BEST_NAME = re.compile(r".+_\d{4,5}\.ckpt")
# Bytes of a number of each type that is taken. Of MindSpore's Int4 half the values would come out as 0.
BYTES = {"Bool": 1, "Int8": 1, "UInt8": 1, "Int16": 2, "UInt16": 2, "Float16": 2, "BFloat16": 2, "Int32": 4,
         "UInt32": 4, "Float32": 4, "Int64": 8, "UInt64": 8, "Float64": 8}


def save_parameters(parameters, path, **extra):
    """Write a checkpoint by a rename: `path` holds all of it or what it held before.

    Args:
        parameters (dict[str, Parameter | Tensor | ndarray]): what to write.
        path (Path): the file.
        extra: further numbers and strings to keep in it, such as `epoch=3`.

    Raises:
        UserError: it cannot be written (a full disk, no permission).
    """
    entries = [{"name": name, "data": ms.Tensor(value)} for name, value in parameters.items()]
    try:
        with replacing(path) as temporary, silence():
            ms.save_checkpoint(entries, str(temporary), append_dict=extra or None, crc_check=True)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot write {path}: {_reason(error)}") from error


def weights(net):
    """The parameters of a network that decide its outputs: without `mix` of `src.adder`, which only training needs."""
    return {name: value for name, value in net.parameters_dict().items() if name.rsplit(".", 1)[-1] != "mix"}


def find_checkpoint(path):
    """Return `path` itself if it is a file, or the one best checkpoint of a folder.

    Args:
        path (str | Path): the file or folder.

    Raises:
        UserError: nothing there, or several best checkpoints.
    """
    path = Path(path)
    return path if path.is_file() else _best_checkpoint(path)


def _best_checkpoint(path):
    if not path.is_dir():
        raise UserError(f"{path}: no such checkpoint")
    found = sorted(file for file in path.glob("*.ckpt") if BEST_NAME.fullmatch(file.name))
    if len(found) != 1:
        names = ": " + ", ".join(file.name for file in found) if found else ""
        raise UserError(f"{path}: {len(found)} checkpoints named <model>_<network>_<dataset>_<accuracy>.ckpt, not one{names}")
    return found[0]


def load_parameters(path):
    """Read a checkpoint as dict[str, Parameter | str], with the extras of `save_parameters` among them.

    Raises:
        UserError: the file is missing, no checkpoint, or damaged, which its checksum tells; the zoo's have none.
    """
    try:
        _check_sizes(Path(path).read_bytes())
        with silence():
            return ms.load_checkpoint(str(path), crc_check=True)
    except (OSError, ValueError, TypeError, RuntimeError, KeyError, DecodeError) as error:
        if zipfile.is_zipfile(path) or Path(path).suffix in (".pth", ".pt"):
            raise UserError(f"{path}: a file of PyTorch; python -m src.convert makes a checkpoint of it") from error
        raise UserError(f"{path}: not a MindSpore checkpoint, or damaged ({_reason(error)})") from error


def _check_sizes(content):
    """Raise ValueError where an entry is of no type of BYTES, or has not the bytes of its shape: MindSpore would write
    beyond it."""
    entries = Checkpoint.FromString(content[:-17] if content[-17:-10] == b"crc_num" else content).value
    sizes = Counter()
    for entry in entries:
        sizes[entry.tag] += len(entry.tensor.tensor_content)
    for entry in entries:
        kind, dims = entry.tensor.tensor_type, entry.tensor.dims
        if kind == "str":
            continue
        if kind not in BYTES:
            raise ValueError(f"{entry.tag} is of type {quote(kind)}, not one of {', '.join(BYTES)}")
        wanted = math.prod(dims if dims != [0] else []) * BYTES[kind]  # a number is of shape [] or [0]
        if sizes[entry.tag] != wanted or min(dims, default=0) < 0:
            raise ValueError(f"{entry.tag} has {sizes[entry.tag]} bytes, not those of its shape")


def fill(net, parameters, source):
    """Give a network exactly its parameters.

    Args:
        net (Cell): the network.
        parameters (dict[str, Parameter]): as `load_parameters` returns them.
        source (str | Path): where they come from, for messages.

    Raises:
        UserError: see `check_parameters` and `exactly`; a variance is negative. The network is left as it was.
    """
    check_parameters(net, parameters, source)
    arrays = {}
    for name, own in net.parameters_dict().items():
        arrays[name] = exactly(parameters[name], own.asnumpy().dtype, name, source)
        if name.endswith("moving_variance") and (arrays[name] < 0).any():
            raise UserError(f"{source}: {name} has negative variances")
    ms.load_param_into_net(net, {name: ms.Parameter(array) for name, array in arrays.items()}, strict_load=True)


def exactly(value, dtype, name, source):
    """The values of a parameter, in the type that they should have.

    Args:
        value (Tensor | ndarray | number | str): what a checkpoint has, of whatever type.
        dtype (type): of NumPy.
        name (str): of the parameter.
        source (str | Path): where it comes from, for messages.

    Returns:
        ndarray of that type and the same numbers.

    Raises:
        UserError: they are not finite, no numbers, or others in that type.
    """
    if isinstance(value, str):
        raise UserError(f"{source}: {name} is text, not numbers")
    if isinstance(value, ms.Tensor):
        value = (value.astype(ms.float32) if value.dtype == ms.bfloat16 else value).asnumpy()
    value = np.asarray(value)
    if not np.isfinite(value).all():
        raise UserError(f"{source}: {name} has values that are not finite")
    with np.errstate(all="ignore"):
        converted = value.astype(dtype)
    if not np.array_equal(converted, value):
        raise UserError(f"{source}: {name} is of type {value.dtype}, and its values are others in {np.dtype(dtype)}")
    return converted


def check_parameters(net, parameters, source):
    """Compare names and shapes with those of a network.

    Args:
        net (Cell): the network.
        parameters (dict): name to anything with a shape.
        source (str | Path): where the parameters come from, for the message.

    Raises:
        UserError: names what is missing, unexpected or of another shape.
    """
    check_shapes({name: tuple(value.shape) for name, value in net.parameters_dict().items()}, parameters, source)


def check_shapes(expected, parameters, source):
    """The same with a dict of names to the shapes that are expected."""
    if "bits" in parameters and "bits" not in expected:
        raise UserError(f"{source} is quantised; a float checkpoint is wanted here")
    got = {name: tuple(getattr(value, "shape", ())) for name, value in parameters.items()}
    complaints = [_listing("missing", [name for name in expected if name not in got]),
                  _listing("unexpected", [name for name in got if name not in expected]),
                  _listing("of another shape", [f"{name} {got[name]} instead of {expected[name]}" for name in expected
                                                if name in got and got[name] != expected[name]])]
    if any(complaints):
        raise UserError(f"{source} does not fit the network: " + "; ".join(filter(None, complaints)))


def _listing(title, names):
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{title}: {', '.join(names[:4])}{more}" if names else ""


def _reason(error):
    """The first line of MindSpore's long messages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
