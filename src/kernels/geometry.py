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
"""Where a layer's windows lie, and how a kernel is told.

MindSpore calls kernels with tensors only. A tensor's values lie on the device; its shape is known on the host, whatever
the device is, and MindSpore infers shapes anew where one differs. So sizes travel as the shape of a tensor that nobody
reads.
"""
import dataclasses

import mindspore as ms
import numpy as np

LARGEST = 255  # stride and padding
LARGEST_GROUP = 65536


@dataclasses.dataclass(frozen=True)
class Geometry:
    """Step of the window, rows and columns of zeros on each side, the norm of the differences, 1 or 2, and how many
    groups the channels and filters are in: filters [C_out, C_in / group, k, k] see the channels of their group.

    Step and zeros may be pairs, of rows and columns, that are equal.

    Raises:
        ValueError: one of them cannot be.
    """
    stride: int = 1
    padding: int = 0
    norm: int = 1
    group: int = 1

    def __post_init__(self):
        for name, allowed in (("stride", range(1, LARGEST + 1)), ("padding", range(LARGEST + 1)), ("norm", (1, 2)),
                              ("group", range(1, LARGEST_GROUP + 1))):
            value = one_of_pair(name, getattr(self, name))
            object.__setattr__(self, name, value)
            if type(value) is not int or value not in allowed:
                raise ValueError(f"{name} must be an integer of {allowed[0]} to {allowed[-1]}, not {value!r}")

    @property
    def sizes(self):
        """As `shape_of` takes them. What x and w are of says how many groups there are."""
        return self.stride, self.padding + 1, self.norm

    def output_size(self, size, kernel):
        """Rows of the output from those of the input and the window; columns likewise."""
        return (size + 2 * self.padding - kernel) // self.stride + 1


def one_of_pair(name, value):
    """The integer that a size is, or both of a pair, or all of a tuple, are. Raises ValueError if they differ."""
    if isinstance(value, (tuple, list)):
        if not value or value.count(value[0]) < len(value):
            raise ValueError(f"{name} must be the same for rows and columns, not {value!r}: windows are square")
        return value[0]
    return value


def shape_of(*sizes):
    """A tensor of that shape, for a kernel's last input."""
    return ms.Tensor(np.zeros(sizes, np.uint8))
