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
"""Writes a network as MINDIR, AIR or ONNX, by a rename and after a check."""
import mindspore as ms
import numpy as np
from mindspore import nn, onnx

from src.errors import UserError
from src.files import replacing


def export(net, input_shape, file, file_format):
    """Export a network in inference mode; a MINDIR is loaded again and must give the network's own outputs.

    Args:
        net (Cell): one input, one output, built-in operators only.
        input_shape (tuple[int]): of its float32 input.
        file (Path): what to write; it appears when it is complete.
        file_format (str): "MINDIR", "AIR" or "ONNX".

    Raises:
        UserError: it cannot be written, or the reloaded model differs.
    """
    net.set_train(False)
    x = ms.Tensor(np.random.Generator(np.random.PCG64(0)).standard_normal(input_shape, np.float32))
    try:
        with replacing(file) as temporary:
            if file_format == "ONNX":
                onnx.export(net, x, file_name=str(temporary))
            else:
                ms.export(net, x, file_name=str(temporary.with_suffix("")), file_format=file_format)
            if file_format == "MINDIR":
                _check(net, x, temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot export {file}: {str(error).strip().splitlines()[0]}") from error


def _check(net, x, file):
    expected = net(x).asnumpy()
    got = nn.GraphCell(ms.load(str(file)))(x).asnumpy()
    error = np.abs(got - expected).max()
    if not error <= 1e-5 * np.abs(expected).max():
        raise UserError(f"{file.name}: the reloaded model's outputs differ from the network's by {error:.1e}")
