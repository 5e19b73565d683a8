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
"""The programs that measure: their options, what they refuse, what they draw."""
import json
import re
import sys

import mindspore as ms
import numpy as np
import pytest

from benchmarks import binding, compare, fixed_point, plot
from src.errors import UserError
from src.res20_adder import resnet20


@pytest.mark.parametrize("program, options, words", [
    (compare, ["--rounds", "0"], "rounds must be a number from 1 to 65536, not 0"),
    (compare, ["--batch_size", "-1"], "batch_size must be a number from 1 to 65536, not -1"),
    (compare, ["--output", "nowhere/a.json"], "nowhere/a.json: there is no folder nowhere"),
    (compare, ["--output", "a.txt"], "output must be a file that ends in .json, not a.txt"),
    (compare, ["--turns", "3"], r"unrecognized arguments: --turns 3 \(see --help\)"),
    (compare, ["--device_target", "GPU", "--parts", "quantised"], "the part quantised runs on CPU only"),
    (plot, ["damaged.json", "a.png"], "damaged.json: no results of benchmarks.compare"),
    (plot, ["part.json", "a.png"], "part.json: the picture needs the parts networks, layers of benchmarks.compare"),
    (plot, ["part.json", "a.json"], "output must be a file that ends in .png, not a.json"),
])
def test_bad_input(tmp_path, monkeypatch, program, options, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "damaged.json").write_text("{")
    (tmp_path / "part.json").write_text('{"machine": {}, "settings": {}}')
    monkeypatch.setattr(sys, "argv", ["benchmark", *options])
    with pytest.raises(UserError, match=words):
        program.main()
    assert not (tmp_path / "a.png").exists()


def test_layers_and_super_resolution(tmp_path, monkeypatch, capfd):
    """Of small sizes: what is printed, written and drawn."""
    monkeypatch.setattr(compare, "LAYERS", {"3x3, small": ((16, 8, 8), (16, 16, 3, 3), 1, 1)})
    monkeypatch.setattr(compare, "EDSR", (4, 1))
    monkeypatch.setattr(compare, "SMALL_PICTURES", {"inference": (1, 3, 9, 8), "training": (2, 3, 9, 8)})
    monkeypatch.setattr(sys, "argv", ["benchmark", "--batch_size", "2", "--rounds", "1", "--parts", "layers",
                                      "super_resolution", "--output", str(tmp_path / "results.json")])
    compare.main()
    printed = capfd.readouterr().out
    assert re.search(r"\n3x3, small( +\d+\.\d \(\d\.\d\d\)){3} *\n", printed), printed
    assert printed.count("\nadder, int16") == 2 and printed.count("\nMindSpore CNN") == 2
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert set(results["layers"]["3x3, small"]) == {"forward", "input_grad", "weight_grad"}
    assert results["super_resolution"]["training"]["adder"]["seconds"] > 0


def test_no_gpu(monkeypatch):
    """Said before anything is timed."""
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(binding.ctypes, "CDLL", load)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--device_target", "GPU"])
    with pytest.raises(UserError, match="no NVIDIA GPU here: libcuda.so.1: cannot open"):
        compare.main()


def test_errors_in_fixed_point(capsys):
    """A line for each adder layer, with errors of the size that either precision has."""
    random = np.random.default_rng(0)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    net = resnet20(10).set_train()
    for _ in range(30):  # until the moving statistics are those of images
        net(ms.Tensor(random.standard_normal((8, 3, 32, 32)).astype(np.float32)))
    fixed_point.report(net.set_train(False), ms.Tensor(random.standard_normal((2, 3, 32, 32)).astype(np.float32)))
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[-2:] == ["float32", "int16"] and len(lines) == 20
    found = np.array([line.split()[-2:] for line in lines], float)
    assert 1e-8 < found.min() and found.max() < 1e-3
    assert found[0, 0] < found[0, 1]
