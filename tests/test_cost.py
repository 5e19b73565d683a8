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
"""The cost report: operations counted by hand, the papers' prices, and its command line."""
import sys

import pytest
from mindspore import nn

from src import cost
from src.adder import Adder2d
from src.errors import UserError
from src.norm import BatchNormAct2d
from src.res20_adder import resnet20


def test_counts():
    n = cost.count(resnet20(10, backend="composed"), 3, (32, 32))
    stages = [6 * 16 * 16 * 9 * 32 ** 2, (16 * 32 * 9 + 5 * 32 * 32 * 9 + 16 * 32) * 16 ** 2,
              (32 * 64 * 9 + 5 * 64 * 64 * 9 + 32 * 64) * 8 ** 2]
    assert (n.inner, n.outer) == (sum(stages), 3 * 16 * 9 * 32 ** 2 + 64 * 10)
    assert (n.inner_weights + n.outer_weights, n.filters) == (270_896, 16 * 7 + 32 * 7 + 64 * 7 + 10)


def test_counts_of_groups():
    """A filter sees the channels of its group."""
    net = nn.SequentialCell(Adder2d(3, 6, 5, 2, 2, group=3, backend="composed"), BatchNormAct2d(6),
                            Adder2d(6, 8, 1, group=2, backend="composed"), BatchNormAct2d(8))
    n = cost.count(net, 3, (9, 7))
    assert (n.inner, n.inner_weights, n.filters) == (5 * 4 * (6 * 25 + 8 * 3), 6 * 25 + 8 * 3, 14)


def test_costs():
    n = cost.Count(inner=3_000_000, outer=1_000_000, inner_weights=1024, outer_weights=256, filters=16)
    cnn, adder = cost.papers_cost("cnn", "fp32", n), cost.papers_cost("adder", "int8", n)
    assert (cnn.multiplications, cnn.additions, cnn.size) == (4_000_000, 4_000_000, 5.0)
    assert cnn.energy == pytest.approx(4 * (3.7 + 0.9))
    assert (adder.multiplications, adder.additions, adder.size) == (0, 8_000_000, 1.25)
    assert adder.energy == pytest.approx(8 * 0.03)
    honest = cost.honest_cost("adder", "int4", n)
    assert (honest.multiplications, honest.additions) == (1_000_000, 7_000_000)
    assert honest.energy == pytest.approx(3 * (0.03 / 2 + 0.1) + 1 * (3.7 + 0.9))
    assert honest.size == pytest.approx(0.5 + 4 * (256 + 32) / 1024)
    assert cost.honest_cost("bnn", "1 bit", n).xnors == 3_000_000


def test_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["cost", "--class_num", "100"])
    cost.main()
    printed = capsys.readouterr().out
    assert "100 classes" in printed and printed.count("adder int3") == 2


@pytest.mark.parametrize("options, words", [
    (["--class_num", "0"], "class_num must be a number from 1 to 1000000, not 0"),
    (["--network", "alexnet"], r"argument --network: invalid choice: 'alexnet' .* \(see --help\)"),
    (["--scale", "3"], "resnet20 does not use --scale"),
    (["--network", "edsr", "--neck", "fpn"], "edsr does not use --neck"),
    (["--bits", "8"], r"unrecognized arguments: --bits 8 \(see --help\)")])
def test_bad_input(options, words, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cost", *options])
    with pytest.raises(UserError, match=words):
        cost.main()
