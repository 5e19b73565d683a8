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
import contextlib

import mindspore as ms
import numpy as np
from mindspore import nn, onnx

from . import kernels
from .adder import AdderOp
from .errors import UserError
from .files import replacing

INPUT = "images"  # its name in ONNX


def export(net, input_shape, file, file_format, output=None):
    """Export a network in inference mode; a MINDIR is loaded again and must give the network's own outputs.

    Args:
        net (Cell): one input, one output; adder layers in it, of any backend, are exported as built-in operators.
        input_shape (tuple[int]): of its float32 input; None on the first axis is a batch of any size. In a MINDIR other
            axes may be None too.
        file (Path): what to write; it appears when it is complete.
        file_format (str): "MINDIR", "AIR" or "ONNX".
        output (str): name of the output in ONNX, for a network that ends with `ops.flatten` or an addition; MindSpore
            loses it behind some other operators. Its own name if None.

    Raises:
        UserError: it cannot be written, or the reloaded model differs.
    """
    net.set_train(False)
    x = ms.Tensor(shape=input_shape, dtype=ms.float32)
    try:
        with replacing(file) as temporary, _exportable(net, "onnx" if file_format == "ONNX" else "unrolled"):
            if file_format == "ONNX":
                onnx.export(net, x, file_name=str(temporary), input_names=[INPUT],
                            output_names=[output] if output else None,
                            dynamic_axes={INPUT: {0: "batch"}} if input_shape[0] is None else None)
            else:
                ms.export(net, x, file_name=str(temporary.with_suffix("")), file_format=file_format)
            if file_format == "MINDIR":
                _check(net, [side or least for side, least in zip(input_shape, (2, 1, 7, 9))], temporary)
    except (OSError, RuntimeError) as error:
        raise UserError(f"cannot export {file}: {str(error).strip().splitlines()[0]}") from error


@contextlib.contextmanager
def _exportable(net, form):
    """The adder layers of a network in a form of `src.kernels.exported`, and afterwards as they were."""
    layers = [cell for _, cell in net.cells_and_names() if isinstance(cell, AdderOp)]
    forward = [layer.forward for layer in layers]
    for layer in layers:
        layer.forward, layer.any_batch = kernels.operation("forward", form, layer.geometry), True
    try:
        yield
    finally:
        for layer, own in zip(layers, forward):
            layer.forward, layer.any_batch = own, False


def _check(net, shape, file):
    x = ms.Tensor(np.random.Generator(np.random.PCG64(0)).standard_normal(shape, np.float32))
    expected = net(x).asnumpy()
    got = nn.GraphCell(ms.load(str(file)))(x).asnumpy()
    error = np.abs(got - expected).max()
    if not error <= 1e-5 * np.abs(expected).max():
        raise UserError(f"{file.name}: the reloaded model's outputs differ from the network's by {error:.1e}")
