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
"""State dicts out of PyTorch's checkpoint files, read without PyTorch and without trusting the file.

A checkpoint is a pickle beside the raw storages it refers to, either in a zip archive or, before PyTorch 1.6, one after
the other.

Source: `_save`, `_legacy_save` and `load` in `torch/serialization.py` of PyTorch 0.4 to 2.13.
"""
import io
import math
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

from . import state_dicts
from .pickle_machine import STORAGE_DTYPES, PickleMachine, checked, shown
from ..errors import UserError

# A ResNet-50 in training, its momenta too, and a quarter. It bounds the time and memory that a hostile file can take.
_MAX_FILE_BYTES = 2 ** 28
_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_LEGACY_PROTOCOL = 1001


def load_state_dict(path, key=None):
    """Read the state dict in a file that `torch.save` wrote, in the zip format or the legacy format before it.

    Args:
        path (Union[str, Path]): the file: a state dict, a training checkpoint around it, or a pickled network.
        key (str): of the file, takes what lies under it; see `src.convert.state_dicts.find`.

    Returns:
        dict[str, ndarray]: the tensors in the order of the file, read-only, with the file's dtypes; only bfloat16
        becomes float32 and bool becomes uint8. Names begin with the keys under which the state dict lies.

    Raises:
        UserError: there is no such file, or it is damaged, too large, compressed or big-endian, does not hold exactly
            one state dict, or uses instructions that are not data.
        OSError: the file cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with open(path, "rb") as file:
        data = file.read(_MAX_FILE_BYTES + 1)
    try:
        return _parse(data, key)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # Whatever a parser raises over bytes that are not ours, the file is what is wrong.
    except Exception as error:
        raise UserError(f"{path}: damaged checkpoint ({type(error).__name__} {shown(error)})") from error


def _parse(data, key):
    if len(data) > _MAX_FILE_BYTES:
        raise UserError(f"larger than {_MAX_FILE_BYTES >> 20} MiB, so not a checkpoint of a network here")
    if data[257:262] == b"ustar":
        raise UserError("the tar format of PyTorch before 0.1.10 is not supported")
    read = _read_zip if data.startswith(b"PK\x03\x04") else _read_legacy
    tensors, storages = read(data, key)
    # Many names for one storage, or strides of 0, could unfold a small file into more than memory holds.
    if sum(math.prod(tensor.size) for tensor in tensors.values()) > len(data):
        raise ValueError("more elements in its tensors than bytes in the file")
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _read_zip(data, under):
    """Zip format -> dict[str, TensorView], and each storage as a flat array."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        folder = _archive_folder(archive.namelist())
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise UserError("a zip archive with compressed entries, which torch.save does not write")
        if sum(entry.file_size for entry in entries) > len(data):
            raise ValueError("more bytes in the archive's entries than in the file")
        if f"{folder}/byteorder" in archive.namelist() and archive.read(f"{folder}/byteorder") != b"little":
            raise UserError("saved on a big-endian machine, which is not supported")
        machine = PickleMachine()
        tensors = state_dicts.find(machine.load(io.BytesIO(archive.read(f"{folder}/data.pkl"))), under)
        return tensors, {key: _elements(storage_type, numel, archive.read(f"{folder}/data/{key}"))
                         for key, (storage_type, numel) in machine.storages.items()}


def _archive_folder(names):
    """The top-level folder of an archive that `torch.save` wrote. It may have any name."""
    folders = [name.split("/")[0] for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(folders) != 1:
        raise UserError("a zip archive, but not one that torch.save wrote")
    if f"{folders[0]}/constants.pkl" in names:
        raise UserError("a TorchScript archive, which is a program: convert the checkpoint that it was made from")
    return folders[0]


def _read_legacy(data, under):
    """Legacy format, five pickles and the storages -> dict[str, TensorView], and each storage as a flat array."""
    if _LEGACY_MAGIC.to_bytes(10, "little") not in data[:32]:
        raise UserError("not a PyTorch checkpoint")
    stream = io.BytesIO(data)
    magic, protocol, system = (PickleMachine().load(stream) for _ in range(3))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL):
        raise ValueError("the header of another format")
    if checked(system, dict)["little_endian"] is not True:
        raise UserError("saved on a big-endian machine, which is not supported")
    machine = PickleMachine()
    tensors = state_dicts.find(machine.load(stream), under)
    storages = {}
    for key in PickleMachine().load(stream):
        storage_type, numel = machine.storages[checked(key, str)]
        if struct.unpack("<q", stream.read(8)) != (numel,):
            raise ValueError("two sizes for one storage")
        size = numel * np.dtype(STORAGE_DTYPES[storage_type]).itemsize
        storages[key] = _elements(storage_type, numel, stream.read(size))
    return tensors, storages


def _elements(storage_type, numel, data):
    """Bytes of a storage -> array [numel]."""
    elements = np.frombuffer(data, STORAGE_DTYPES[storage_type], numel)
    if storage_type == "BFloat16Storage":
        elements = (elements.astype(np.uint32) << 16).view(np.float32)
    return elements


def _view(tensor, elements):
    """A tensor, known to lie inside its storage, as a read-only array over the storage's elements."""
    elements = elements[tensor.storage.start + tensor.offset:]
    strides = [step * elements.itemsize for step in tensor.stride]
    return np.lib.stride_tricks.as_strided(elements, tensor.size, strides, writeable=False)
