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
"""What the passes from MindSpore's operators share, those that run and those that are exported."""
from mindspore import ops

from .precision import Float32


class Pass(Float32):
    """A pass of a layer of some geometry."""

    def __init__(self, geometry):
        super().__init__()
        self.stride, self.padding, self.group = geometry.stride, geometry.padding, geometry.group

    def convolution(self, x, w, group):
        """x [N, C, H, W] and w [F, C / group, k, k] -> [N, F, H_out, W_out], of the layer's stride and padding."""
        pad = (self.padding,) * 4
        return ops.Conv2D(w.shape[0], w.shape[2:], 1, "pad", pad, (self.stride,) * 2, group=group)(x, w)


def equal_blocks(items, largest):
    """How many blocks of one size items make, of at most `largest` items each."""
    return next(items // size for size in range(min(largest, items), 0, -1) if items % size == 0)
