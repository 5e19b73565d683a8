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
"""Cells that compute in float32, whatever precision `to_float` and `mindspore.amp` set around them."""
import mindspore as ms
from mindspore import nn, ops

FLOATS = (ms.float32, ms.float16, ms.bfloat16)
FLAGS = ("fp32", "fp16", "bf16")  # as MindSpore's flags call them


class Float32(nn.Cell):
    """A Cell whose inputs MindSpore casts to float32, and that never takes another precision."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.add_flags(fp32=True)

    def add_flags_recursive(self, **flags):
        return super().add_flags_recursive(**{name: flags[name] for name in flags if name not in FLAGS})


def check_float(where, name, value):
    """Refuse what is no tensor of `FLOATS`, by its name, in every mode of MindSpore: raises TypeError."""
    if not isinstance(value, ms.Tensor):
        raise TypeError(f"{where}: {name} must be a tensor of MindSpore")
    _check_type(where, name, value.dtype)


@ops.constexpr
def _check_type(where, name, given):
    if given not in FLOATS:
        raise TypeError(f"{where}: {name} must be of float32, float16 or bfloat16, not {given}; use "
                        f"{name}.astype(mindspore.float32)")
