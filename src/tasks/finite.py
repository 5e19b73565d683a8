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
"""What a network gives, if it can be used."""
import numpy as np

from ..errors import UserError


def finite(values):
    """An array as it is. Raises UserError where a value is not finite."""
    if not np.isfinite(values).all():
        raise UserError("what the network gives is not finite: its weights are too large, or damaged")
    return values
