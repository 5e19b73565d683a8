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
import sys

import pytest

from benchmarks import binding, compare, plot
from src.errors import UserError


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


def test_no_gpu(monkeypatch):
    """Said before anything is timed."""
    def load(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(binding.ctypes, "CDLL", load)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--device_target", "GPU"])
    with pytest.raises(UserError, match="no NVIDIA GPU here: libcuda.so.1: cannot open"):
        compare.main()
