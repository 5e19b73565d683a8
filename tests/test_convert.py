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
"""src.convert: every format that PyTorch wrote is read, nothing hostile or damaged gets through."""
import argparse
import copyreg
import io
import pickle
import random
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.convert import __main__ as convert
from src.convert import pickle_machine, torch_pickle
from src.convert.__main__ import convert_names
from src.errors import UserError
from src.convert.pickle_machine import PickleMachine
from src.convert.torch_pickle import load_state_dict

ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "tests" / "fixtures"


# A writer of PyTorch files without PyTorch. In `opcodes`, bytes stand for opcodes that are already assembled.

def opcodes(value):
    """The pickle instructions, of protocol 2, that push a value."""
    match value:
        case bytes():
            return value
        case None:
            return b"N"
        case bool():
            return b"\x88" if value else b"\x89"
        case int():
            data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
            return b"\x8a" + bytes([len(data)]) + data
        case float():
            return b"G" + struct.pack(">d", value)
        case str():
            return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
        case tuple():
            return b"(" + b"".join(map(opcodes, value)) + b"t"
        case list():
            return b"](" + b"".join(map(opcodes, value)) + b"e"
        case dict():
            return b"}(" + b"".join(opcodes(item) for pair in value.items() for item in pair) + b"u"


def name_of(module, name):
    return f"c{module}\n{name}\n".encode()


def call(module, name, *arguments):
    return name_of(module, name) + opcodes(arguments) + b"R"


def storage(key, numel, storage_type="FloatStorage", *view):
    return opcodes(("storage", name_of("torch", storage_type), key, "cuda:0", numel, *view)) + b"Q"


def tensor(storage, offset=0, size=(2, 3), stride=(3, 1)):
    return call("torch._utils", "_rebuild_tensor_v2", storage, offset, size, stride, False,
                call("collections", "OrderedDict"))


def write_zip(path, program, storages=(), byteorder=b"little", compression=zipfile.ZIP_STORED):
    """A file of the zip format: the opcodes of its pickle, and {key: bytes} of its storages."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("any name/data.pkl", b"\x80\x02" + program + b".")
        archive.writestr("any name/byteorder", byteorder)
        for key, data in dict(storages).items():
            archive.writestr(f"any name/data/{key}", data)
    return path


def write_legacy(path, program, storages=(), little_endian=True, itemsize=4):
    """A file of the legacy format, from the same."""
    storages = dict(storages)
    header = (0x1950a86a20f9469cfc6c, 1001, {"protocol_version": 1001, "little_endian": little_endian})
    pickles = [*map(opcodes, header), program, opcodes(list(storages))]
    path.write_bytes(b"".join(b"\x80\x02" + pickle + b"." for pickle in pickles)
                     + b"".join(struct.pack("<q", len(data) // itemsize) + data for data in storages.values()))
    return path


@pytest.fixture(params=[write_zip, write_legacy])
def write(request):
    """Either writer; `write(path, program, storages)`."""
    return request.param


def write_state(write, path, state):
    """Write {name: float32 or int64 array} as `torch.save(state_dict)` does."""
    program, storages = b"", {}
    for key, (name, value) in enumerate(state.items()):
        strides = tuple(stride // value.itemsize for stride in value.strides)
        of_type = storage(str(key), value.size, "FloatStorage")
        program += opcodes(name) + tensor(of_type, 0, value.shape, strides)
        storages[str(key)] = value.tobytes()
    return write(path, call("collections", "OrderedDict") + b"(" + program + b"u" + opcodes({"_metadata": {}}) + b"b",
                 storages)


SIX = np.arange(6, dtype=np.float32)
SIX_STORAGE = {"0": SIX.tobytes()}


def one_tensor(**geometry):
    """A state dict with one tensor over the storage `SIX_STORAGE`."""
    return opcodes({"a": tensor(storage("0", 6), **geometry)})


def our_shapes(class_num=10):
    """The 110 names of Adder ResNet-20 and their shapes, written down from the paper's code and not from ours."""
    shapes = {"conv1.weight": (16, 3, 3, 3), "fc.weight": (class_num, 64, 1, 1)}
    batch_norms = {"bn1": 16, "bn2": class_num}
    for stage, width in ((1, 16), (2, 32), (3, 64)):
        for block in range(3):
            path = f"layer{stage}.{block}"
            first = width // 2 if stage > 1 and block == 0 else width
            shapes[f"{path}.conv1.adder"] = (width, first, 3, 3)
            shapes[f"{path}.conv2.adder"] = (width, width, 3, 3)
            batch_norms |= {f"{path}.bn1": width, f"{path}.bn2": width}
            if first != width:
                shapes[f"{path}.downsample.0.adder"] = (width, first, 1, 1)
                batch_norms[f"{path}.downsample.1"] = width
    for path, width in batch_norms.items():
        shapes |= {f"{path}.{leaf}": (width,) for leaf in ("gamma", "beta", "moving_mean", "moving_variance")}
    return shapes


def torch_state(class_num=10, prefix="module."):
    """A random state dict of Adder ResNet-20 under PyTorch's names, and what it must become."""
    theirs = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    generator = np.random.default_rng(0)
    ours = {name: generator.random(shape, np.float32) for name, shape in our_shapes(class_num).items()}
    state = {}
    for name, value in ours.items():
        path, _, leaf = name.rpartition(".")
        state[f"{prefix}{path}.{theirs.get(leaf, leaf)}"] = value
        if leaf == "moving_variance":
            state[f"{prefix}{path}.num_batches_tracked"] = np.array(7, np.float32)
    return state, ours


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape and found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)


def refusal(path):
    """The line with which a file is refused."""
    with pytest.raises(UserError) as info:
        load_state_dict(path)
    line = str(info.value)
    assert line.startswith(f"{path}: ") and line.isascii() and "\n" not in line and len(line) < len(str(path)) + 300
    return line


class TestGenuineFiles:
    """Files that PyTorch wrote, see fixtures/make_torch_fixtures.py."""

    EXPECTED = {
        "module.conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / np.float32(7),
        "module.bn.weight": np.array([0.5, -0.25], np.float16),
        "module.bn.bias": np.array([0.1, 0.2], np.float32).astype(np.float64),
        "module.bn.running_mean": np.array([2, 3], np.float32),
        "module.bn.running_var": np.array([4, 6], np.float32),
        "module.bn.num_batches_tracked": np.array(2 ** 40 + 1),
        "module.transposed": np.array([[0, 3], [1, 4], [2, 5]], np.float32),
        "module.parameter": np.array([0, 1, 2], np.float32),
        "module.empty": np.zeros((0, 3), np.float32),
        "module.int": np.array([-2 ** 31, 7], np.int32),
        "module.short": np.array([-2 ** 15, 7], np.int16),
        "module.char": np.array([-128, 127], np.int8),
        "module.byte": np.array([0, 255], np.uint8),
    }
    MODERN = {"module.bool": np.array([1, 0], np.uint8), "module.bfloat16": np.array([1.5, -3], np.float32)}

    @pytest.mark.parametrize("name", ["torch-1.0.1-legacy", "torch-1.1.0-legacy"])
    def test_old(self, name):
        assert_equal(load_state_dict(FIXTURES / f"{name}.pth"), self.EXPECTED)

    @pytest.mark.parametrize("name", [
        "torch-1.6.0-zip", "torch-2.13.0-zip", "torch-2.13.0-zip-protocol4", "torch-2.13.0-legacy",
        "torch-2.13.0-legacy-protocol5",
    ])
    def test_modern(self, name):
        state = load_state_dict(FIXTURES / f"{name}.pth")
        assert_equal(state, self.EXPECTED | self.MODERN)
        assert not any(value.flags.writeable for value in state.values())

    def test_training_checkpoint(self):
        state = load_state_dict(FIXTURES / "torch-2.13.0-zip-training.pth")
        assert_equal(state, {f"state_dict.{name}": value for name, value in self.EXPECTED.items()})

    @pytest.mark.parametrize("name, found", [
        ("torch-1.0.1-legacy-model", "type '__main__.Net' and no state dict"),
        ("torch-1.1.0-legacy-model", "type '__main__.Net' and no state dict"),
        ("torch-2.13.0-zip-model", "type '__main__.Net' and no state dict"),
        ("torch-2.13.0-script", "TorchScript"),
    ])
    def test_without_a_state_dict(self, name, found):
        assert found in refusal(FIXTURES / f"{name}.pth")

    def test_against_torch(self, tmp_path):
        torch = pytest.importorskip("torch", reason="the product does without PyTorch; this compares with it")
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(4, 5, 6, generator=generator)
        state = {"plain": base, "slice": base[1:3, ::2, 1], "permuted": base.permute(2, 0, 1), "row": base[3, 4],
                 "scalar": base[0, 0, 0], "half": base.half(), "bfloat16": base.bfloat16(), "long": base.long()}
        for modern in (True, False):
            path = tmp_path / "state.pth"
            torch.save(state, path, _use_new_zipfile_serialization=modern)
            expected = {name: (value.float() if value.dtype is torch.bfloat16 else value).numpy()
                        for name, value in torch.load(path, weights_only=True).items()}
            assert_equal(load_state_dict(path), expected)


class TestVariants:
    """What older versions wrote and our fixtures do not hold."""

    def test_first_rebuild_function(self, tmp_path, write):
        value = call("torch._utils", "_rebuild_tensor", storage("0", 6), 1, (2, 2), (1, 2))
        state = load_state_dict(write(tmp_path / "a", opcodes({"a": value}), SIX_STORAGE))
        assert_equal(state, {"a": np.array([[1, 3], [2, 4]], np.float32)})

    def test_storage_view(self, tmp_path):
        value = tensor(storage("0", 6, "FloatStorage", ("1", 2, 3)), 1, (2,), (1,))
        state = load_state_dict(write_legacy(tmp_path / "a", opcodes({"a": value}), SIX_STORAGE))
        assert_equal(state, {"a": np.array([3, 4], np.float32)})

    def test_python2_ordered_dict(self, tmp_path, write):
        program = call("collections", "OrderedDict", [[b"U\x01a", tensor(storage("0", 6))]])
        state = load_state_dict(write(tmp_path / "a", program, SIX_STORAGE))
        assert_equal(state, {"a": SIX.reshape(2, 3)})


def pickled(kind, state, items=b""):
    """An object of a class, as Python pickles it: made without arguments, filled, given its attributes."""
    return name_of(*kind.split(" ")) + b")\x81" + items + opcodes(state) + b"b"


def module(parameters=(), modules=(), buffers=(), kind="net Net"):
    """A pickled torch.nn.Module."""
    parts = {"_parameters": dict(parameters), "_buffers": dict(buffers), "_modules": dict(modules)}
    others = {"training": True, "act": name_of("os", "system"), "hooks": call("builtins", "set", [])}
    return pickled(kind, {**others, **parts})


class TestWhereItLies:
    """One state dict is found wherever it lies in the file, and inside pickled networks, whose classes stay names."""

    STATE = {"a.weight": tensor(storage("0", 6)), "a.b": tensor(storage("0", 6), 1, (2,), (1,))}
    VALUES = {"a.weight": SIX.reshape(2, 3), "a.b": SIX[1:3]}
    MODULE = module(modules={"a": module({"weight": STATE["a.weight"], "none": None}, buffers={"b": STATE["a.b"]})})
    OTHERS = {"epoch": 3, "loss": [0.5], "best": tensor(storage("0", 6), 0, (), ()), 7: None,
              "optimizer": {"state": {0: {"momentum_buffer": tensor(storage("0", 6))}}, "param_groups": [{"lr": 0.1}]},
              "args": pickled("argparse Namespace", {"lr": 0.1, "run": call("os", "system", "false")}),
              "accuracy": call("numpy.core.multiarray", "scalar", call("numpy", "dtype", "f8") + opcodes((3, "<"))
                               + b"b", call("_codecs", "encode", "x", "latin1")), "set": b"\x8f(K\x01\x90",
              "bytes": b"C\x01a"}

    @pytest.mark.parametrize("wrap, path", [
        (lambda state: {"state_dict": state}, "state_dict"),
        (lambda state: {"epoch": 3, "model": {"deep": {"net": state}}}, "model.deep.net"),
        (lambda state: ({"epoch": 3}, [state]), "1.0"),
        (lambda state: {"ema": pickled("ema EMA", {"shadow": state})}, "ema.shadow"),
        (lambda state: {"d": pickled("easydict EasyDict", {}, opcodes("k") + opcodes(state) + b"s")}, "d.k"),
    ])
    @pytest.mark.parametrize("state", [STATE, MODULE], ids=["state dict", "module"])
    def test_found(self, tmp_path, write, wrap, path, state):
        value = wrap(state)
        for others in ({}, self.OTHERS):
            program = opcodes({**value, **others} if isinstance(value, dict) else value)
            file = write(tmp_path / "a", program, SIX_STORAGE)
            assert_equal(load_state_dict(file), {f"{path}.{name}": value for name, value in self.VALUES.items()})

    def test_pickled_network(self, tmp_path, write):
        for program in (self.MODULE, module(modules={"module": self.MODULE}, kind="torch.nn.parallel DataParallel")):
            state = load_state_dict(write(tmp_path / "a", program, SIX_STORAGE))
            assert [name.removeprefix("module.") for name in state] == list(self.VALUES)

    def test_pickled_network_with_its_source(self, tmp_path):
        """PyTorch before 1.13 stores the source of a class beside its name."""
        kind = opcodes(("module", name_of("net", "Net"), "net.py", "import os")) + b"Q"
        program = self.MODULE.replace(name_of("net", "Net"), kind)
        assert_equal(load_state_dict(write_legacy(tmp_path / "a", program, SIX_STORAGE)), self.VALUES)

    @pytest.mark.parametrize("values", [{"state_dict": STATE, "state_dict_ema": STATE}, {"a": MODULE, "b": STATE}])
    def test_several(self, tmp_path, write, values):
        path = write(tmp_path / "a", opcodes(values), SIX_STORAGE)
        first, second = values
        assert f"holds 2 state dicts: --key chooses one of '{first}', '{second}'" in refusal(path)
        for key in values:
            expected = {f"{key}.{name}": value for name, value in self.VALUES.items()}
            assert_equal(load_state_dict(path, key), expected)
        with pytest.raises(UserError, match=f"nothing under 'stat'; its first tensor is '{first}.a.weight'"):
            load_state_dict(path, "stat")

    def test_part_of_a_state_dict(self, tmp_path, write):
        state = {f"{part}.{name}": value for part in ("student", "teacher") for name, value in self.STATE.items()}
        path = write(tmp_path / "a", opcodes({"state_dict": {**state, "temperature.x": 3}}), SIX_STORAGE)
        assert "type int under 'state_dict.temperature.x'" in refusal(path)
        names = [f"state_dict.teacher.{name}" for name in self.STATE]
        assert list(load_state_dict(path, "state_dict.teacher")) == names

    @pytest.mark.parametrize("function, more", [
        ("torch_npu.utils.storage _rebuild_npu_tensor", (True, None, 2)),
        ("torch_npu.utils.storage _rebuild_npu_tensor", (True, None, call("torch_npu.npu._format", "Format", 2))),
        ("torch_npu.utils.tensor_methods _rebuild_npu_tensor", (True, None, True)),
        ("torch._utils _rebuild_tensor_v2", (True, None, {})),
    ])
    @pytest.mark.parametrize("kind", ["torch FloatStorage", "torch.npu FloatStorage", "torch.cuda FloatStorage"])
    @pytest.mark.parametrize("device", ["npu:0", "cuda:1", "cpu", "xla:3"])
    def test_from_other_devices(self, tmp_path, write, function, more, kind, device):
        place = opcodes(("storage", name_of(*kind.split()), "0", device, 6)) + b"Q"
        value = call(*function.split(), place, 1, (2, 2), (1, 2), *more)
        subclass = call("torch._tensor", "_rebuild_from_type_v2", name_of(*function.split()), name_of("own", "Tensor"),
                        (place, 1, (2, 2), (1, 2), *more), {"a": 1})
        parameter = call("torch._utils", "_rebuild_parameter_with_state", value, True, None, {"a": 1})
        program = opcodes({"a": value, "b": subclass, "c": parameter})
        state = load_state_dict(write(tmp_path / "a", program, SIX_STORAGE))
        assert_equal(state, dict.fromkeys("abc", np.array([[1, 3], [2, 4]], np.float32)))

    @pytest.mark.parametrize("name", ["zip", "legacy", "protocol 5"])
    def test_against_torch(self, tmp_path, name):
        torch = pytest.importorskip("torch", reason="the product does without PyTorch; this compares with it")
        torch.manual_seed(0)
        block = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.BatchNorm2d(5), torch.nn.ReLU())
        net = torch.nn.DataParallel(torch.nn.Sequential(block, torch.nn.LSTM(5, 2), torch.nn.Bilinear(3, 2, 4)))
        optimizer = torch.optim.Adam(net.parameters())
        optimizer.step(lambda: sum(parameter.sum() for parameter in net.parameters()).backward())
        checkpoint = {"net": net, "optimizer": optimizer, "device": torch.device("cpu"), "accuracy": np.float64(0.5),
                      "schedule": torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10), "step": torch.tensor(3)}
        options = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}, "protocol 5": {"pickle_protocol": 5}}
        torch.save(checkpoint, tmp_path / "a.pth", **options[name])
        expected = {f"net.{key}": value.numpy() for key, value in net.state_dict().items()}
        assert_equal(load_state_dict(tmp_path / "a.pth"), expected)


def marker_attack(style, marker):
    """Opcodes that run `os.mkdir(marker)` when Python's own pickle loads them."""
    arguments = opcodes((str(marker),))
    return {
        "GLOBAL": name_of("os", "mkdir") + arguments + b"R",
        "STACK_GLOBAL": opcodes("os") + opcodes("mkdir") + b"\x93" + arguments + b"R",
        "builtins": name_of("builtins", "eval") + opcodes((f"__import__('os').mkdir({str(marker)!r})",)) + b"R",
        "INST": b"(" + opcodes(str(marker)) + b"ios\nmkdir\n",
        "OBJ": b"(" + name_of("os", "mkdir") + opcodes(str(marker)) + b"o",
        "EXT1": b"\x82\xf0" + arguments + b"R",
        "EXT2": b"\x83\xf0\x00" + arguments + b"R",
        "EXT4": b"\x84\xf0\x00\x00\x00" + arguments + b"R",
    }[style]


class TestAttacks:
    """Hostile pickles are refused, and nothing of theirs runs."""

    @pytest.fixture(autouse=True)
    def extension(self):
        copyreg.add_extension("os", "mkdir", 0xf0)
        yield
        copyreg.remove_extension("os", "mkdir", 0xf0)

    @pytest.mark.parametrize("style, refused", [
        ("GLOBAL", "os.mkdir"), ("STACK_GLOBAL", "os.mkdir"), ("builtins", "builtins.eval"), ("INST", "os mkdir"),
        ("OBJ", "instruction OBJ"), ("EXT1", "EXT1"), ("EXT2", "EXT2"), ("EXT4", "EXT4"),
    ])
    def test_code_is_not_run(self, tmp_path, write, style, refused):
        marker = tmp_path / "marker"
        attack = marker_attack(style, marker)
        pickle.loads(b"\x80\x04" + attack + b".")
        assert marker.is_dir(), "the attack itself does not work, so the test would prove nothing"
        marker.rmdir()
        line = refusal(write(tmp_path / "attack.pth", opcodes({"a": attack})))
        assert refused in line
        assert not marker.exists()

    def test_code_beside_a_state_dict_is_not_run(self, tmp_path, write):
        for style in ("GLOBAL", "STACK_GLOBAL", "builtins"):
            attack = marker_attack(style, tmp_path / "marker")
            program = opcodes({"args": attack, "net": {"a.weight": tensor(storage("0", 6))}})
            path = write(tmp_path / "a", program, SIX_STORAGE)
            assert_equal(load_state_dict(path), {"net.a.weight": SIX.reshape(2, 3)})
            assert not (tmp_path / "marker").exists()

    @pytest.mark.parametrize("program", [
        name_of("torch._utils", "_rebuild_tensor_v2") + opcodes((None, {"__code__": 1})) + b"b",
        name_of("torch", "FloatStorage") + opcodes({"name": "os.mkdir"}) + b"b",
        tensor(storage("0", 6)) + opcodes({"size": (2 ** 30,)}) + b"b",
        storage("0", 6) + opcodes((None, {"numel": 2 ** 30})) + b"b",
        opcodes("text") + opcodes({"upper": 1}) + b"b",
    ])
    def test_attributes_are_not_set(self, tmp_path, write, program):
        refusal(write(tmp_path / "a", opcodes({"a": program}), SIX_STORAGE))

    def test_state_of_a_dict_is_ignored(self, tmp_path, write):
        program = one_tensor() + opcodes({"items": 1, "__class__": 2, "_metadata": 3}) + b"b"
        assert_equal(load_state_dict(write(tmp_path / "a", program, SIX_STORAGE)), {"a": SIX.reshape(2, 3)})

    @pytest.mark.parametrize("program, found", [
        (opcodes("torch._utils._rebuild_tensor_v2") + opcodes(()) + b"R", "str in the place of Global"),
        (call("torch", "FloatStorage", 10 ** 9), "type 'torch.FloatStorage'"),
        (name_of("collections", "OrderedDict") + b")\x81", "type 'collections.OrderedDict'"),
        (call("collections", "OrderedDict.__init__"), "OrderedDict.__init__"),
        (call("torch._utils", "_rebuild_tensor_v2", storage("0", 6), 0, (2,), (1,), False, None, {"neg": 1}),
         "tensor_v2"),
        (call("torch._utils", "_rebuild_tensor_v3", storage("0", 6), 0, (2,), (1,), False, None, 1), "tensor_v3"),
        (call("torch._utils", "_rebuild_parameter", [1], True, None), "type list under 'a'"),
        (opcodes(("module", name_of("torch", "FloatStorage"), "0", "cpu", 6)) + b"Q", "no storage"),
        (opcodes(("storage", name_of("collections", "OrderedDict"), "0", "cpu", 6)) + b"Q", "no storage"),
        (b"Pstorage\n", "PERSID"),
        (b"}(" + opcodes("odd") + b"u", "ValueError"),
    ])
    def test_odd_programs(self, tmp_path, write, program, found):
        assert found in refusal(write(tmp_path / "a", opcodes({"a": program}), SIX_STORAGE))


@pytest.mark.filterwarnings("ignore:invalid escape sequence")
class TestDamage:
    """Damaged files end in one line, whatever the damage."""

    @pytest.fixture
    def path(self, tmp_path, write):
        state = {"module.bn.running_mean": SIX, "module.adder": SIX.reshape(3, 2).T, "b": np.array(3, np.float32)}
        return write_state(write, tmp_path / "a.pth", state)

    def test_every_truncation(self, path):
        data = path.read_bytes()
        assert len(load_state_dict(path)) == 3
        for length in range(len(data)):
            path.write_bytes(data[:length])
            refusal(path)

    def test_corrupted_bytes(self, path):
        data, generator, refused = path.read_bytes(), random.Random(0), 0
        for _ in range(600):
            damaged = bytearray(data)
            for _ in range(generator.choice((1, 1, 1, 4, 16))):
                damaged[generator.randrange(len(data))] = generator.randrange(256)
            path.write_bytes(damaged)
            refused += not is_readable(path)
        assert refused > 200

    def test_corrupted_pickle(self, tmp_path):
        # Behind the archive's checksums, so that the stack machine sees the damage.
        intact, generator, refused = one_tensor(), random.Random(1), 0
        for _ in range(1500):
            program = bytearray(intact)
            for _ in range(generator.choice((1, 1, 2, 4))):
                position = generator.randrange(len(program))
                program[position:position + generator.randrange(3)] = generator.randbytes(generator.randrange(3))
            refused += not is_readable(write_zip(tmp_path / "a.pth", bytes(program), SIX_STORAGE))
        assert 750 < refused < 1500

    def test_damaged_storage_of_an_archive(self, tmp_path):
        path = write_zip(tmp_path / "a.pth", one_tensor(), SIX_STORAGE)
        path.write_bytes(path.read_bytes().replace(SIX.tobytes(), SIX[::-1].tobytes()))
        assert "Bad CRC-32" in refusal(path)


def is_readable(path):
    """Whether a file is read; if so its arrays can be used, and if not it ends in one line."""
    try:
        state = load_state_dict(path)
    except UserError as error:
        assert "\n" not in str(error)
        return False
    return all(np.array(value).shape == value.shape for value in state.values())


class TestGeometry:
    """A tensor lies inside its storage, and a storage inside the file."""

    @pytest.mark.parametrize("geometry, expected", [
        ({"offset": 5, "size": (), "stride": ()}, 5.0),
        ({"offset": 2, "size": (1, 4), "stride": (2 ** 40, 1)}, [[2, 3, 4, 5]]),
        ({"offset": 1, "size": (2, 2), "stride": (0, 3)}, [[1, 4], [1, 4]]),
        ({"offset": 6, "size": (0, 2), "stride": (2, 1)}, np.zeros((0, 2))),
    ])
    def test_inside(self, tmp_path, write, geometry, expected):
        state = load_state_dict(write(tmp_path / "a", one_tensor(**geometry), SIX_STORAGE))
        assert_equal(state, {"a": np.array(expected, np.float32)})

    @pytest.mark.parametrize("geometry", [
        {"offset": 1}, {"offset": -1}, {"offset": 6, "size": (), "stride": ()}, {"stride": (4, 1)},
        {"size": (3, 3)}, {"stride": (-3, 1)}, {"size": (-2, -3)}, {"size": (2,)}, {"size": [2, 3]},
        {"size": (2.0, 3)}, {"size": (True, 3)}, {"offset": None}, {"size": "23"},
        {"offset": 2 ** 62}, {"size": (2 ** 62, 4)}, {"stride": (2 ** 62, 1)}, {"stride": (2 ** 61, 2 ** 61)},
        {"size": (2, 3, 1), "stride": (3, 1, 2 ** 41)}, {"size": (2 ** 30, 1), "stride": (0, 0)},
        {"size": (1,) * 9, "stride": (1,) * 9},
        {"offset": int.from_bytes(b"\x7f" * 200, "little")},
    ])
    def test_outside(self, tmp_path, write, geometry):
        refusal(write(tmp_path / "a", one_tensor(**geometry), SIX_STORAGE))

    @pytest.mark.parametrize("reference", [
        storage("0", 7), storage("0", 2 ** 40), storage("0", -6), storage("1", 6), storage("0", True),
        storage("../data.pkl", 6), storage(0, 6), storage("0", 6, "DoubleStorage"),
        storage("0", 6, "FloatStorage", ("1", 1, 6)), storage("0", 6, "FloatStorage", ("1", -1, 6)), opcodes(6),
    ])
    def test_storage(self, tmp_path, write, reference):
        refusal(write(tmp_path / "a", opcodes({"a": tensor(reference)}), SIX_STORAGE))

    def test_two_sizes_of_one_storage(self, tmp_path):
        path = write_legacy(tmp_path / "a", opcodes({"a": tensor(storage("0", 6))}), {"0": bytes(28)})
        assert "two sizes" in refusal(path)

    def test_two_types_of_one_storage(self, tmp_path, write):
        state = {"a": tensor(storage("0", 6)), "b": tensor(storage("0", 6, "IntStorage"))}
        assert "two types" in refusal(write(tmp_path / "a", opcodes(state), SIX_STORAGE))


NESTED = b")" + 60 * b"q\x01h\x01\x86"
"""A tuple of a tuple twice, sixty levels deep: 2 ** 60 leaves."""


class TestBombs:
    """A small file takes little memory and little time."""

    def test_many_names_for_one_storage(self, tmp_path, write):
        data = {"0": bytes(4 * 10_000)}
        state = {f"a{index}": tensor(storage("0", 10_000), 0, (10_000,), (1,)) for index in range(100)}
        assert "more elements" in refusal(write(tmp_path / "a", opcodes(state), data))

    @pytest.mark.parametrize("program", [
        b"Nr\xff\xff\xff\xff",                                # a memo with four thousand million entries
        b"\x8d" + struct.pack("<Q", 2 ** 62) + b"a",          # a string of exabytes
        b"\x8b" + struct.pack("<i", 2 ** 31 - 1) + b"a",      # a number of gigabytes
        b"}" + NESTED + b"Ns",                                # a key that takes for ever to hash
        b"}" + NESTED + b"h\x01s",
    ])
    def test_pickle(self, tmp_path, write, program):
        refusal(write(tmp_path / "a", program))

    def test_nested_tuples_as_storage_key(self, tmp_path):
        refusal(write_legacy(tmp_path / "a", opcodes({"a": tensor(storage(NESTED, 6))}), SIX_STORAGE))
        path = write_legacy(tmp_path / "a", one_tensor(), SIX_STORAGE)
        path.write_bytes(path.read_bytes().replace(opcodes(["0"]), b"](" + NESTED + b"e"))
        assert "tuple in the place of str" in refusal(path)

    def test_long_pickle(self, tmp_path, write, monkeypatch):
        monkeypatch.setattr(pickle_machine, "_MAX_INSTRUCTIONS", 100)
        path = write(tmp_path / "a", one_tensor(), SIX_STORAGE)
        assert len(load_state_dict(path)) == 1
        assert "too long" in refusal(write(path, one_tensor() + b"N" * 100, SIX_STORAGE))

    def test_one_list_for_many_dicts(self):
        items = [[f"a{index}", 0] for index in range(100)]
        first = name_of("collections", "OrderedDict") + b"q\x01" + opcodes((items,)) + b"q\x02R"
        dicts = PickleMachine().load(io.BytesIO(b"](" + first + 100 * b"h\x01h\x02R" + b"e."))
        assert len(dicts) == 101 and sum(map(len, dicts)) == 100

    def test_cycle(self, tmp_path, write):
        module_of_itself = b"cnet\nNet\n)\x81q\x01" + opcodes({
            "_parameters": {"w": tensor(storage("0", 6))}, "_buffers": {}, "_modules": {"inner": b"h\x01"}}) + b"b"
        program = opcodes({"net": module_of_itself, "list": b"]q\x02h\x02a", "sd": {"a.b": tensor(storage("0", 6))}})
        assert list(load_state_dict(write(tmp_path / "a", program, SIX_STORAGE))) == ["sd.a.b"]

    @pytest.mark.parametrize("level", [
        b"\x85",                                                           # a tuple of the one before
        b"h\x01\x86",                                                      # a tuple of the one before, twice
        b"}(" + opcodes("a") + b"h\x01" + opcodes("b") + b"h\x01u",        # a dict of it, twice
        b"cnet\nNet\n)\x81h\x01b",                                        # an object with it as its attributes
    ])
    def test_each_value_is_looked_at_once(self, tmp_path, level):
        refusal(write_zip(tmp_path / "a", b"]q\x01" + 20_000 * (level + b"q\x01")))

    def test_modules_with_shared_parts(self, tmp_path):
        """Quadratic, if each module was searched by itself."""
        modules = {f"m{index}": module() for index in range(3000)}
        shared = opcodes({"_parameters": {}, "_buffers": {}, "_modules": modules})
        modules = 3000 * b"cnet\nNet\n)\x81h\x01b"
        assert "no state dict" in refusal(write_zip(tmp_path / "a", shared + b"q\x01](" + modules + b"e"))

    @pytest.mark.parametrize("program", [
        b"}q\x02" + 20_000 * b"}h\x01h\x02sq\x02",                        # dicts inside dicts, under this name
        20_000 * b"h\x01h\x01\x93",                                       # classes of this name
        b"](" + 20_000 * b"}h\x01Nsh\x01Ns" + b"e",
    ])
    def test_long_name(self, tmp_path, write, program):
        """A name that stands in the file once, and in many places of the value."""
        refusal(write(tmp_path / "a", opcodes("." * 200_000) + b"q\x01" + program))

    def test_deeply_nested(self, tmp_path, write):
        assert "type tuple" in refusal(write(tmp_path / "a", b")" + b"\x85" * 100_000))

    def test_large_file(self, tmp_path, monkeypatch):
        path = write_zip(tmp_path / "a", one_tensor(), SIX_STORAGE)
        monkeypatch.setattr(torch_pickle, "_MAX_FILE_BYTES", path.stat().st_size)
        load_state_dict(path)
        monkeypatch.setattr(torch_pickle, "_MAX_FILE_BYTES", path.stat().st_size - 1)
        assert "larger than" in refusal(path)

    def test_overlapping_entries(self, tmp_path):
        path = write_zip(tmp_path / "a", one_tensor(), SIX_STORAGE | {"1": bytes(2000)})
        data = path.read_bytes()
        start = data.rindex(b"PK\x01\x02")
        end = data.rindex(b"PK\x05\x06")
        record = data[start:end]
        directory = data.index(b"PK\x01\x02")
        counts = struct.pack("<HHII", 6, 6, end + 2 * len(record) - directory, directory)
        path.write_bytes(data[:end] + 2 * record + data[end:end + 8] + counts + data[-2:])
        assert "archive's entries" in refusal(path)


class TestOtherFiles:
    """What is not a checkpoint of ours is named."""

    @pytest.mark.parametrize("data", [b"", b"hello\n", b"PK\x05\x06" + bytes(18), b"\x89PNG\r\n\x1a\n", bytes(1000)])
    def test_not_a_checkpoint(self, tmp_path, data):
        path = tmp_path / "a.txt"
        path.write_bytes(data)
        assert "not a PyTorch checkpoint" in refusal(path)

    def test_other_archives(self, tmp_path):
        np.savez(tmp_path / "a.npz", a=SIX)
        assert "torch.save" in refusal(tmp_path / "a.npz")
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
        assert "tar format" in refusal(tmp_path / "a.tar")

    def test_missing(self, tmp_path):
        assert "no such file" in refusal(tmp_path / "missing.pth")
        assert "no such file" in refusal(tmp_path)

    def test_big_endian(self, tmp_path):
        assert "big-endian" in refusal(write_zip(tmp_path / "a", one_tensor(), SIX_STORAGE, byteorder=b"big"))
        assert "big-endian" in refusal(write_legacy(tmp_path / "a", one_tensor(), SIX_STORAGE, little_endian=False))

    def test_other_version_of_the_legacy_format(self, tmp_path):
        path = write_legacy(tmp_path / "a", one_tensor(), SIX_STORAGE)
        path.write_bytes(path.read_bytes().replace(opcodes(1001), opcodes(1002)))
        assert "header" in refusal(path)

    def test_two_checkpoints_in_one_archive(self, tmp_path):
        path = write_zip(tmp_path / "a", one_tensor(), SIX_STORAGE)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("another/data.pkl", b"N.")
        assert "not one that torch.save wrote" in refusal(path)

    def test_compressed(self, tmp_path):
        path = write_zip(tmp_path / "a", one_tensor(), SIX_STORAGE, compression=zipfile.ZIP_DEFLATED)
        assert "compressed" in refusal(path)

    @pytest.mark.parametrize("value, found", [
        (3, "type int"), ([], "type list"), ({"a": [1]}, "type list under 'a'"), ({"x\ny": 1}, r"'x\ny'"),
        ({1: tensor(storage("0", 6))}, "type dict and no"), ({"a b": tensor(storage("0", 6))}, "odd name 'a b'"),
        ({"\xe9": tensor(storage("0", 6))}, r"odd name '\xe9'"),
        ({"a" * 2000: tensor(storage("0", 6))}, "odd name 'aaa"),
        (b"}X\x03\x00\x00\x00\xed\xa0\x80Ns", r"'\ud800'"), (name_of("torch", "FloatStorage"), "type Global"),
    ])
    def test_other_content(self, tmp_path, write, value, found):
        assert found in refusal(write(tmp_path / "a", opcodes(value), SIX_STORAGE))


class TestNames:
    """convert_names: PyTorch's names to ours."""

    @pytest.mark.parametrize("prefix", ["", "module."])
    @pytest.mark.parametrize("class_num", [10, 100])
    def test_all_parameters(self, class_num, prefix):
        state, ours = torch_state(class_num, prefix)
        assert len(ours) == 110 and len(state) == 132
        assert_equal(convert_names(state, "a.pth"), ours)

    def test_linear_classifier(self):
        state, ours = torch_state()
        state["module.fc.weight"] = state["module.fc.weight"].reshape(10, 64)
        converted = convert_names(state, "a.pth")
        convert.fit(converted, argparse.Namespace(file="a.pth", network="resnet20", layer="l1", dataset=None))
        assert_equal(converted, ours)

    def test_data_of_other_channels(self):
        arguments = argparse.Namespace(file="a.pth", network="resnet20", layer="l1", dataset="mnist")
        with pytest.raises(UserError, match="takes images of 3 channels, those of mnist have 1"):
            convert.fit(convert_names(torch_state()[0], "a.pth"), arguments)

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_values_are_copies_in_float32(self, dtype):
        source = (np.arange(6, dtype=dtype) / 7).reshape(2, 3).T
        expected = source.astype(np.float32)
        converted = convert_names({"conv.weight": source, "b": SIX}, "a.pth")["conv.weight"]
        source[:] = 0
        assert converted.dtype == np.float32 and converted.flags.c_contiguous and converted.flags.writeable
        np.testing.assert_array_equal(converted, expected)

    def test_only_batch_norms_are_renamed(self):
        state = {"fc.weight": SIX, "fc.bias": SIX, "bn.bias": SIX, "bn.running_mean": SIX, "bias": SIX}
        assert list(convert_names(state, "a")) == ["fc.weight", "fc.bias", "bn.beta", "bn.moving_mean", "bias"]

    @pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model.",
                                        "state_dict.module.model.", "0.any thing.net.", "_fsdp_wrapped_module."])
    def test_prefixes(self, prefix):
        names = ["conv1.weight", "1.0._orig_mod.conv1.adder", "1._checkpoint_wrapped_module.0.b", "a_orig_mod.b"]
        state = {"n_averaged": np.array(3), **{prefix + name: SIX for name in names}}
        assert list(convert_names(state, "a.pth")) == ["conv1.weight", "1.0.conv1.adder", "1.0.b", "a_orig_mod.b"]

    @pytest.mark.parametrize("name, value, found", [
        *(("a.weight", np.array([0, value]), "not finite") for value in (np.nan, np.inf, -np.inf, 1e300)),
        ("bn.running_var", np.array([1, -1e-9]), "negative variances"),
        *(("a.weight", np.ones(2, dtype), np.dtype(dtype).name) for dtype in ("i1", "u1", "i2", "i4", "i8", "c8")),
    ])
    def test_values_that_no_network_has(self, name, value, found):
        state = {"net.bn.running_mean": SIX, f"net.{name}": value}
        with pytest.raises(UserError, match=re.escape(f"a.pth: net.{name} has ") + f".*{found}"):
            convert_names(state, "a.pth")

    def test_clash(self):
        with pytest.raises(UserError, match="a.pth: two tensors for a.gamma, one of them a.weight"):
            convert_names({"a.gamma": SIX, "a.weight": SIX, "a.running_mean": SIX, "b": SIX}, "a.pth")


def theirs(net, prefix=""):
    """A state dict of random numbers with PyTorch's names of a network, and what it must become."""
    torch_names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
    generator = np.random.default_rng(0)
    ours = {name: generator.random(value.shape, np.float32) for name, value in net.parameters_dict().items()}
    state = {}
    for name, value in ours.items():
        path, _, leaf = name.rpartition(".")
        state[f"{prefix}{path}.{torch_names.get(leaf, leaf)}"] = value
    return state, ours


class TestNetworks:
    """fit: every network and kind of layers of the tables is known by its names."""

    @staticmethod
    def options(**given):
        return argparse.Namespace(**{**dict.fromkeys(("network", "layer", "dataset")), "file": "a.pth", **given})

    @pytest.mark.parametrize("network, layer, class_num, channels, dataset", [
        ("resnet20", "conv", 10, 1, "mnist"), ("resnet20", "l2", 7, 3, "folder"),
        ("resnet32", "l1", 100, 3, "cifar100"),
        ("lenet5_bn", "l1", 10, 3, "cifar10"), ("lenet5_bn", "conv", 10, 1, "mnist"),
        ("lenet5_bn", "shiftadd", 100, 3, "cifar100"), ("resnet20", "shiftadd", 10, 3, "cifar10"),
        ("resnet20_w4", "l1", 100, 3, "cifar100"), ("ghostnet_050_imagenet", "l1", 100, 3, "cifar100"),
        ("resnet50", "l1", 1000, 3, "folder"), ("lenet_pp", "xnor", 10, 1, "mnist"),
    ])
    def test_table(self, network, layer, class_num, channels, dataset):
        from src import networks
        from src.identity import Identity
        state, ours = theirs(networks.create(network, class_num, layer, channels, backend="composed"), "model.module.")
        parameters = convert_names(state, "a.pth")
        found = "l1" if layer == "l2" else layer  # they have the same names
        assert convert.fit(dict(parameters), self.options()) == Identity(network, found, class_num, dataset)
        identity = convert.fit(parameters, self.options(network=network, layer=layer))
        assert identity == Identity(network, layer, class_num, dataset)
        assert_equal(parameters, ours)

    @pytest.mark.parametrize("given, found", [
        ({}, "a.pth, taken for resnet20 of layer conv (.*), does not fit the network: missing: layer1.0.conv1.weight"),
        ({"layer": "l1"}, "of layer l1 .* missing: layer1.0.conv1.adder, .*; unexpected: layer1.0.conv2.weight"),
        ({"network": "lenet5_bn"}, "taken for lenet5_bn of layer "),
        ({"network": "resnet"}, "--network is one of resnet20, .*, not resnet"),
        ({"layer": "l3"}, "--layer is one of l1, .*, not l3"),
        ({"dataset": "x"}, "--dataset is one of cifar100, .*, not x"),
        ({"network": "edsr"}, "--network edsr: only classifiers are converted"),
        ({"dataset": "coco"}, "--dataset coco: only classifiers are converted"),
    ])
    def test_what_does_not_fit(self, given, found):
        from src import networks
        parameters = theirs(networks.create("resnet20", 100, "conv", backend="composed"))[1]
        del parameters["layer1.0.conv1.weight"]
        with pytest.raises(UserError, match=found):
            convert.fit(parameters, self.options(**given))

    @pytest.mark.parametrize("name, shape", [("fc.weight", (0, 64, 1, 1)), ("conv1.weight", (16, 0, 3, 3)),
                                             ("fc.weight", ()), ("conv1.weight", (16, 3, 3))])
    def test_shapes_that_no_network_has(self, name, shape):
        parameters = torch_state()[1]
        parameters[name] = np.zeros(shape, np.float32)
        with pytest.raises(UserError, match=f"of another shape: {name}"):
            convert.fit(parameters, self.options())


class TestCommandLine:
    """python -m src.convert FILE.pth OUT.ckpt."""

    @pytest.fixture
    def main(self, monkeypatch):
        def run(*arguments):
            monkeypatch.setattr(sys, "argv", ["convert", *map(str, arguments)])
            convert.main()
        return run

    @pytest.mark.parametrize("class_num", [10, 100])
    def test_round_trip(self, tmp_path, write, main, capsys, class_num):
        from mindspore import load_checkpoint
        from src import identity
        state, ours = torch_state(class_num)
        source, target = write_state(write, tmp_path / "a.pth", state), tmp_path / "a.ckpt"
        main(source, target)
        data = {10: "cifar10", 100: "cifar100"}[class_num]
        assert capsys.readouterr().out == (f"converted 110 parameters (resnet20 of layer l1, {class_num} classes, "
                                           f"{data}) from {source} (module) to {target}\n")
        parameters = load_checkpoint(str(target))
        assert identity.take(parameters, target) == identity.Identity("resnet20", "l1", class_num, data)
        found = {name: value.asnumpy() for name, value in parameters.items()}
        assert_equal(dict(sorted(found.items())), dict(sorted(ours.items())))

    def test_key(self, tmp_path, main, capsys):
        state = {f"{part}.{name}": value for part in ("a", "b") for name, value in torch_state()[0].items()}
        source, target = write_state(write_zip, tmp_path / "a.pth", state), tmp_path / "a.ckpt"
        with pytest.raises(UserError, match="a.pth, taken for resnet20 of layer l1 .*--key.*: a.module.conv1.weight"):
            main(source, target)
        main(source, target, "--key", "b")
        assert f" from {source} (b.module) to {target}\n" in capsys.readouterr().out and target.exists()

    @pytest.mark.parametrize("change, named", [
        (lambda state: state.pop("module.layer2.0.conv1.adder"), "layer2.0.conv1.adder"),
        (lambda state: state.update({"module.extra": SIX}), "extra"),
        (lambda state: state.update({"module.layer1.2.conv2.adder": SIX}), "layer1.2.conv2.adder"),
        (lambda state: state.pop("module.fc.weight"), "fc.weight"),
        (lambda state: state.update({"module.fc.weight": SIX}), "fc.weight"),
        (lambda state: state.update({"module.fc.weight": state["module.fc.weight"][:, :32]}), "fc.weight"),
        (lambda state: state.update({"module.fc.weight": state["module.fc.weight"][:9]}), "bn2"),
    ])
    def test_another_network(self, tmp_path, main, change, named):
        state, _ = torch_state()
        change(state)
        state = {name: np.ascontiguousarray(value) if value.ndim else value for name, value in state.items()}
        with pytest.raises(UserError, match=re.escape(named)) as info:
            main(write_state(write_zip, tmp_path / "a.pth", state), tmp_path / "a.ckpt")
        assert "\n" not in str(info.value)
        assert not (tmp_path / "a.ckpt").exists()

    def test_missing_folder(self, tmp_path, main):
        with pytest.raises(UserError, match="there is no folder"):
            main(tmp_path / "a.pth", tmp_path / "missing" / "a.ckpt")

    def test_wrong_suffix(self, tmp_path, main):
        with pytest.raises(UserError, match="output must be a file that ends in .ckpt, not .*a.pth"):
            main(tmp_path / "a.pth", tmp_path / "a.pth")

    def test_one_line_and_no_heavy_import(self, tmp_path):
        path = write_zip(tmp_path / "a.pth", marker_attack("GLOBAL", tmp_path / "marker"))
        program = ("import runpy, sys; sys.argv = ['convert', *sys.argv[1:]]\n"
                   "try: runpy.run_module('src.convert', run_name='__main__')\n"
                   "finally: assert not {'torch', 'mindspore'} & set(sys.modules)")
        result = subprocess.run([sys.executable, "-c", program, path, tmp_path / "a.ckpt"], cwd=ROOT, text=True,
                                capture_output=True)
        assert result.returncode == 1 and result.stdout == ""
        assert re.fullmatch(rf"error: {re.escape(str(path))}: holds a value of type 'os\.mkdir' .*\n", result.stderr)
