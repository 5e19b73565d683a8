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
"""Errors of adder layers in float32 and in fixed point against float64, in a trained network.

    python -m benchmarks.fixed_point --checkpoint_file_path ckpt --data_path data

Every layer gets the activations that the network has in float32 for the first test images. An error is the root mean
square over all responses of a layer, relative to their deviation within their channels.
"""
from src import errors

errors.guard(__name__)  # before what takes seconds to import

import mindspore as ms
import numpy as np

from src import checkpoint, device, kernels, loading
from src.adder import Adder2d
from src.config import Parser, check_range
from src.data import create_dataset, prepare


def main():
    parser = Parser("python -m benchmarks.fixed_point", __doc__, parents=[loading.identity_options()])
    parser.add_argument("--checkpoint_file_path", default="ckpt", help="checkpoint, or the folder of one")
    parser.add_argument("--data_path", default="data", help="folder of the data set, or the folder around it")
    parser.add_argument("--images", type=int, default=16, help="how many")
    arguments = parser.parse_args()
    check_range("images", arguments.images, 1, 4096)
    device.set_up("CPU", mode="PYNATIVE")
    net, identity = loading.load(checkpoint.find_checkpoint(arguments.checkpoint_file_path), loading.stated(arguments))
    folder = prepare(identity.dataset, arguments.data_path, ("test",), False, identity.class_num, identity.classes,
                     identity.size)
    batches = create_dataset(identity.dataset, folder, "test", arguments.images, size=identity.size)
    images = next(batches.create_tuple_iterator(num_epochs=1))[0]
    report(net.set_train(False), images)


def report(net, images):
    """Print a line of errors for each adder layer."""
    print(f"{'layer':24} {'filters':>16} {'largest x':>10} {'largest |w|':>12}" +
          "".join(f"{precision:>10}" for precision in kernels.PRECISIONS))
    for name, layer in net.cells_and_names():
        if isinstance(layer, Adder2d):
            layer.register_forward_hook(lambda cell, inputs, _, name=name: report_layer(name, cell, inputs[0]))
    net(images)


def report_layer(name, layer, x):
    """A line of a layer's errors on x [N, C, H, W]."""
    w, geometry = layer.adder.asnumpy(), layer.operation.geometry
    exact = responses(x.asnumpy(), w, geometry)
    deviation, found = exact.std((0, 2, 3)).mean(), []
    for precision in kernels.PRECISIONS:
        got = kernels.operation(kernels.in_precision("forward", precision), "kernel", geometry)(x, ms.Tensor(w)).asnumpy()
        found.append(np.sqrt(np.square(got - exact).mean()) / deviation)
    print(f"{name:24} {'x'.join(map(str, w.shape)):>16} {x.asnumpy().max():10.1f} {np.abs(w).max():12.1f}" +
          "".join(f"{error:10.1e}" for error in found), flush=True)


def responses(x, w, geometry):
    """-sum |x - w| in float64, filter by filter."""
    margin = (geometry.padding, geometry.padding)
    x = np.pad(x.astype(np.float64), ((0, 0), (0, 0), margin, margin))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, ::geometry.stride, ::geometry.stride]
    return np.stack([-np.abs(windows - one[:, None, None]).sum((1, 4, 5)) for one in w], 1)


if __name__ == "__main__":
    errors.run(main)
