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
"""Training images to evaluate on, for tasks that have them in a list."""
from ..errors import UserError


def hold_out(items, count, path):
    """Divide training images.

    Args:
        items (list): one for each image.
        count (int): how many to hold out, spread evenly.
        path (Path): where they come from, for the message.

    Returns:
        tuple of two lists: those to train on, those that are held out.

    Raises:
        UserError: nothing would be left to train on.
    """
    if count >= len(items):
        raise UserError(f"{path}: validation_size {count} leaves nothing of {len(items)} training images")
    held = {number * len(items) // count for number in range(count)}
    return ([item for number, item in enumerate(items) if number not in held],
            [item for number, item in enumerate(items) if number in held])
