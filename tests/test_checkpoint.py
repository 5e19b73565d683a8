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
"""src.checkpoint: written whole or not at all, loaded strictly, and never more than a checkpoint."""
import os
import pickle
import random
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from mindspore.train.checkpoint_pb2 import Checkpoint

from src.checkpoint import check_parameters, exactly, fill, find_checkpoint, load_parameters, save_parameters
from src.errors import UserError

ROOT = Path(__file__).parents[1]
SAVE_FOREVER = """
import sys
import numpy as np
from src.checkpoint import save_parameters
save_parameters({"w": np.zeros(200_000, np.float32)}, sys.argv[1], number=0)
print("ready", flush=True)
number = 0
while True:
    number += 1
    save_parameters({"w": np.full(200_000, number, np.float32)}, sys.argv[1], number=number)
"""
SAVE_ON_A_FULL_DISK = """
import resource, sys
import numpy as np
from src import errors
from src.checkpoint import save_parameters
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
errors.run(lambda: save_parameters({"w": np.ones(200_000, np.float32)}, sys.argv[1]))
"""


def network(features=3):
    return nn.SequentialCell(nn.Dense(4, features), nn.BatchNorm1d(features))


def one_line(caught, *words):
    message = str(caught.value)
    assert "\n" not in message
    assert all(str(word) in message for word in words), message


@pytest.fixture(name="saved")
def fixture_saved(tmp_path):
    """A checkpoint of `network()`."""
    path = tmp_path / "net.ckpt"
    save_parameters(network().parameters_dict(), path)
    return path


# What is saved is what is loaded.

@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.int64, bool])
@pytest.mark.parametrize("shape", [(), (1,), (3, 2, 1, 5)])
def test_arrays_come_back_bit_by_bit(dtype, shape, tmp_path):
    value = np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)
    save_parameters({"w": value}, tmp_path / "a.ckpt")
    loaded = load_parameters(tmp_path / "a.ckpt")["w"].asnumpy()
    assert (loaded.dtype, loaded.shape, loaded.tobytes()) == (value.dtype, value.shape, value.tobytes())


def test_special_floats_come_back_bit_by_bit(tmp_path):
    value = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 0.1], np.float32)
    save_parameters({"w": value}, tmp_path / "a.ckpt")
    assert load_parameters(tmp_path / "a.ckpt")["w"].asnumpy().tobytes() == value.tobytes()


@pytest.mark.parametrize("convert", [np.copy, ms.Tensor, ms.Parameter], ids=["array", "Tensor", "Parameter"])
def test_every_kind_of_value_can_be_saved(convert, tmp_path):
    value = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_parameters({"w": convert(value)}, str(tmp_path / "a.ckpt"))
    np.testing.assert_array_equal(load_parameters(str(tmp_path / "a.ckpt"))["w"].asnumpy(), value)


def test_extras_come_back(tmp_path):
    save_parameters({"w": np.ones(2, np.float32)}, tmp_path / "a.ckpt", epoch=70_000, best="net_1234.ckpt", loss=0.1)
    loaded = load_parameters(tmp_path / "a.ckpt")
    assert set(loaded) == {"w", "epoch", "best", "loss"}
    assert (int(loaded["epoch"]), str(loaded["best"])) == (70_000, "net_1234.ckpt")
    assert abs(float(loaded["loss"]) - 0.1) < 1e-6


def test_network_comes_back(saved):
    net = network()
    wanted = load_parameters(saved)
    for parameter in net.get_parameters():
        parameter.set_data(ms.Tensor(np.full(parameter.shape, 7, np.float32)))
    fill(net, load_parameters(saved), saved)
    for name, parameter in net.parameters_dict().items():
        np.testing.assert_array_equal(parameter.asnumpy(), wanted[name].asnumpy())


def test_file_is_a_plain_mindspore_checkpoint(saved):
    loaded = ms.load_checkpoint(str(saved))
    assert list(loaded) == list(network().parameters_dict())
    assert ms.load_param_into_net(network(), loaded, strict_load=True) == ([], [])


def test_file_is_readable_by_all_and_writable_by_its_owner(saved):
    assert saved.stat().st_mode & 0o777 == 0o644


def test_file_is_replaced_and_nothing_else_is_left(saved):
    save_parameters({"w": np.ones(2, np.float32)}, saved)
    assert list(load_parameters(saved)) == ["w"]
    assert os.listdir(saved.parent) == [saved.name]


# A write that fails.

def python(code, *arguments, **options):
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def test_full_disk_leaves_the_old_file(saved):
    before = saved.read_bytes()
    process = python(SAVE_ON_A_FULL_DISK, saved)
    _, errors = process.communicate()
    line = errors.splitlines()[-1]
    assert (process.returncode, line.split(":")[0]) == (1, "error"), errors
    assert f"cannot write {saved}" in line and "Traceback" not in errors
    assert saved.read_bytes() == before
    assert os.listdir(saved.parent) == [saved.name]


@pytest.mark.parametrize("folder", ["absent", "net.ckpt"], ids=["missing folder", "folder is a file"])
def test_folder_that_cannot_be_written(folder, saved):
    path = saved.parent / folder / "a.ckpt"
    with pytest.raises(UserError) as caught:
        save_parameters({"w": np.ones(2, np.float32)}, path)
    one_line(caught, "cannot write", path)
    assert not path.exists() and os.listdir(saved.parent) == [saved.name]


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "a.ckpt").mkdir()
    with pytest.raises(UserError) as caught:
        save_parameters({"w": np.ones(2, np.float32)}, tmp_path / "a.ckpt")
    one_line(caught, "cannot write", tmp_path / "a.ckpt")
    assert os.listdir(tmp_path) == ["a.ckpt"]


def test_failing_rename_leaves_the_old_file(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(source, _):
        assert saved.parent in Path(source).parents, "a rename across file systems is none"
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(UserError, match="No space left"):
        save_parameters({"w": np.ones(2, np.float32)}, saved)
    assert saved.read_bytes() == before and os.listdir(saved.parent) == [saved.name]


def test_kill_at_any_moment_leaves_a_whole_file(tmp_path):
    path, noise, numbers = tmp_path / "a.ckpt", random.Random(0), []
    for _ in range(4):
        process = python(SAVE_FOREVER, path)
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(noise.uniform(0.02, 0.3))
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        loaded = load_parameters(path)
        numbers.append(int(loaded["number"]))
        assert set(loaded["w"].asnumpy()) == {numbers[-1]}
    assert max(numbers) > 0, "killed before it saved twice"


# A checkpoint that does not fit.

def refused(net, path, *words):
    before = {name: value.asnumpy().copy() for name, value in net.parameters_dict().items()}
    with pytest.raises(UserError) as caught:
        fill(net, load_parameters(path), path)
    one_line(caught, path, *words)
    assert all(np.array_equal(value.asnumpy(), before[name]) for name, value in net.parameters_dict().items())


def changed(path, change):
    """Save the parameters of `path` again after a change of their dictionary."""
    parameters = {name: value.asnumpy() for name, value in load_parameters(path).items()}
    change(parameters)
    save_parameters(parameters, path)


def test_missing_parameter_is_named(saved):
    changed(saved, lambda parameters: parameters.pop("0.weight"))
    refused(network(), saved, "missing: 0.weight")


def test_unexpected_parameter_is_named(saved):
    changed(saved, lambda parameters: parameters.update(extra=np.ones(1, np.float32)))
    refused(network(), saved, "unexpected: extra")


def test_other_shape_is_named(saved):
    changed(saved, lambda parameters: parameters.update({"0.weight": np.ones((4, 3), np.float32)}))
    refused(network(), saved, "of another shape: 0.weight (4, 3) instead of (3, 4)")


def test_other_network_is_told_in_one_line(saved):
    refused(network(5), saved, "of another shape", "0.bias (3,) instead of (5,)")
    refused(nn.Conv2d(1, 1, 1), saved, "missing: weight", "unexpected: 0.weight, 0.bias", "and 2 more")


def test_extras_are_unexpected_in_a_network(saved):
    save_parameters(network().parameters_dict(), saved, epoch=3)
    refused(network(), saved, "unexpected: epoch")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(value, saved):
    changed(saved, lambda parameters: np.put(parameters["0.weight"], 7, value))
    refused(network(), saved, "0.weight has values that are not finite")


def test_negative_variances_are_named(saved):
    changed(saved, lambda parameters: np.put(parameters["1.moving_variance"], 2, -1e-6))
    refused(network(), saved, "1.moving_variance has negative variances")


def test_text_instead_of_numbers_is_named(saved):
    parameters = {name: value.asnumpy() for name, value in load_parameters(saved).items() if name != "0.bias"}
    save_parameters(parameters, saved, **{"0.bias": "three"})
    refused(network(), saved, "0.bias () instead of (3,)")
    with pytest.raises(UserError, match="a.ckpt: w is text"):
        exactly("three", np.float32, "w", "a.ckpt")


def test_quantised_checkpoint_instead_of_one_in_floats():
    with pytest.raises(UserError, match="a.ckpt is quantised; a float checkpoint is wanted"):
        check_parameters(network(), {"bits": np.array(8)}, "a.ckpt")


TYPES = [np.float16, np.float64, np.int8, np.int32, np.int64, np.uint8, bool, "bfloat16"]


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_other_types_are_converted(dtype, saved):
    """Where they hold numbers of float32."""
    bits = np.random.default_rng(1).integers(0, 2, (3, 4))
    value = ms.Tensor(bits.astype(np.float32)).astype(ms.bfloat16) if dtype == "bfloat16" else bits.astype(dtype)
    parameters = {name: each.asnumpy() for name, each in load_parameters(saved).items()}
    save_parameters({**parameters, "0.weight": value}, saved)
    net = network()
    fill(net, load_parameters(saved), saved)
    got = net.parameters_dict()["0.weight"]
    assert got.dtype == ms.float32 and np.array_equal(got.asnumpy(), bits)


@pytest.mark.parametrize("value", [np.full((3, 4), 0.1), np.full((3, 4), 1e300), np.full((3, 4), 2 ** 24 + 1)],
                         ids=["digits", "range", "integers"])
def test_types_that_would_lose_something_are_named(value, saved):
    changed(saved, lambda parameters: parameters.update({"0.weight": value}))
    refused(network(), saved, f"0.weight is of type {value.dtype}", "float32")


# A file that was damaged.

def test_any_flipped_bit_is_found(tmp_path):
    """In values, names, shapes, types, extras or the checksum itself: each bit of a small file."""
    path = tmp_path / "a.ckpt"
    save_parameters({"a.w": np.random.default_rng(0).random((2, 3), np.float32), "b": np.arange(3, dtype=np.uint8)}, path,
                    identity='{"a": 1}', epoch=3)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        not_a_checkpoint(path)


def test_any_lost_end_is_found_or_takes_entries_away(tmp_path):
    """An end that takes the checksum along leaves whole entries: values that are there are right."""
    path = tmp_path / "a.ckpt"
    values = {"a.w": np.random.default_rng(0).random((2, 3), np.float32), "b": np.arange(3, dtype=np.uint8)}
    save_parameters(values, path, identity='{"a": 1}')
    content = path.read_bytes()
    loaded = []
    for size in range(len(content)):
        path.write_bytes(content[:size])
        try:
            parameters = load_parameters(path)
        except UserError:
            continue
        loaded.append(len(parameters))
        assert all(np.array_equal(parameters[name].asnumpy(), values[name]) for name in values if name in parameters)
    assert loaded == [1, 2, 3]


@pytest.mark.parametrize("dims, kind, size", [
    ([2, 2], "Float32", 12), ([2, 2], "Float32", 20), ([1 << 20, 1 << 12], "Float32", 16), ([-2, -2], "Float32", 16),
    ([0], "Float32", 16), ([2], "Float64", 8), ([3], "Bool", 2), ([1 << 62, 4], "Float32", 16), ([2], "Float", 8),
    ([], "", 0)], ids=str)
def test_bytes_that_are_not_those_of_the_shape(dims, kind, size, tmp_path):
    """Without a checksum MindSpore would take what there is, fill up the rest, or write beyond the end."""
    not_a_checkpoint(entry(tmp_path, dims, kind, size))


def entry(folder, dims, kind, size):
    """A file of one entry."""
    entries = Checkpoint()
    tensor = entries.value.add(tag="w").tensor
    tensor.dims.extend(dims)
    tensor.tensor_type, tensor.tensor_content = kind, bytes(range(size))
    (folder / "a.ckpt").write_bytes(entries.SerializeToString())
    return folder / "a.ckpt"


@pytest.mark.parametrize("kind, size", [("Int4", 2), ("Float8E4M3FN", 4), ("QInt4x2", 4), ("Complex64", 32),
                                        ("int8", 4)])
def test_types_that_are_not_taken(kind, size, tmp_path):
    """MindSpore gives the first half of Int4's values, and 0 for the others."""
    with pytest.raises(UserError) as caught:
        load_parameters(entry(tmp_path, [4], kind, size))
    one_line(caught, tmp_path / "a.ckpt", f"w is of type '{kind}', not one of Bool, Int8, UInt8")


def test_published_checkpoints_have_a_checksum():
    found = list((ROOT / "ckpt").rglob("*.ckpt"))
    assert found and all(path.read_bytes()[-17:-10] == b"crc_num" for path in found)


def test_file_without_a_checksum(tmp_path, capfd):
    """As the zoo's are; nothing is said."""
    value = np.random.default_rng(0).random((2, 3), np.float32)
    ms.save_checkpoint([{"name": "w", "data": ms.Tensor(value)}], str(tmp_path / "a.ckpt"))
    assert np.array_equal(load_parameters(tmp_path / "a.ckpt")["w"].asnumpy(), value)
    assert capfd.readouterr() == ("", "")


# A file that is no checkpoint.

class Bomb:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def not_a_checkpoint(path):
    with pytest.raises(UserError) as caught:
        load_parameters(path)
    one_line(caught, path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00" * 1000, b"\xff" * 1000, b"PK\x03\x04" + b"\x00" * 100],
                         ids=["empty", "text", "zeros", "ones", "zip"])
def test_file_of_another_kind(content, tmp_path):
    (tmp_path / "a.ckpt").write_bytes(content)
    not_a_checkpoint(tmp_path / "a.ckpt")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_pickle_is_refused_and_not_run(protocol, tmp_path):
    bomb = pickle.dumps({"w": Bomb(tmp_path / "exploded")}, protocol)
    (tmp_path / "a.ckpt").write_bytes(bomb)
    not_a_checkpoint(tmp_path / "a.ckpt")
    assert not (tmp_path / "exploded").exists()
    pickle.loads(bomb)
    assert (tmp_path / "exploded").exists(), "the bomb is a dud"


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_file(part, tmp_path):
    path = tmp_path / "a.ckpt"
    save_parameters({"w": np.random.default_rng(0).random(5000, np.float32), "b": np.ones(3, np.float32)}, path)
    content = path.read_bytes()
    path.write_bytes(content[:int(len(content) * part)])
    not_a_checkpoint(path)


def test_file_of_pytorch(tmp_path):
    """Whatever its name or its age."""
    with zipfile.ZipFile(tmp_path / "net.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    (tmp_path / "net.pth").write_bytes(pickle.dumps({"w": 1}, 2))
    for path in tmp_path.iterdir():
        with pytest.raises(UserError) as caught:
            load_parameters(path)
        one_line(caught, path, "python -m src.convert")


def test_missing_file_and_folder(tmp_path):
    not_a_checkpoint(tmp_path / "absent.ckpt")
    not_a_checkpoint(tmp_path)


# Finding one.

def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_a_file_is_found_whatever_its_name(tmp_path):
    touch(tmp_path, "last.ckpt", "other.bin")
    for name in ("last.ckpt", "other.bin"):
        assert find_checkpoint(str(tmp_path / name)) == tmp_path / name


@pytest.mark.parametrize("name", ["adder_resnet20_cifar10_9234.ckpt", "net_0000.ckpt", "net_10000.ckpt"])
def test_the_one_best_checkpoint_of_a_folder(name, tmp_path):
    touch(tmp_path, name, "last.ckpt", "train_state.ckpt", "config.yaml", f".{name}.123.ckpt", "net_1234.ckpt.bak",
          "_1234.ckpt", "net_123.ckpt", "net_123456.ckpt", "net_12a4.ckpt", "net1234.ckpt")
    (tmp_path / "older").mkdir()
    touch(tmp_path / "older", "net_5678.ckpt")
    assert find_checkpoint(str(tmp_path)) == tmp_path / name


def test_folder_without_a_best_checkpoint(tmp_path):
    touch(tmp_path, "last.ckpt", "train_state.ckpt")
    with pytest.raises(UserError) as caught:
        find_checkpoint(str(tmp_path))
    one_line(caught, tmp_path, "0 checkpoints")


def test_folder_with_several_best_checkpoints(tmp_path):
    touch(tmp_path, "net_1234.ckpt", "net_5678.ckpt", "last.ckpt")
    with pytest.raises(UserError) as caught:
        find_checkpoint(str(tmp_path))
    one_line(caught, tmp_path, "2 checkpoints", "net_1234.ckpt, net_5678.ckpt")


def test_nothing_there(tmp_path):
    with pytest.raises(UserError) as caught:
        find_checkpoint(str(tmp_path / "absent"))
    one_line(caught, tmp_path / "absent", "no such checkpoint")
