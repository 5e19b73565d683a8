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
"""The pipeline from what a task makes of its records, in Python, to batches."""
import mindspore.dataset as ds

from ..errors import UserError


def pipeline(source, columns, options):
    """Whole batches of samples, in their order.

    Args:
        source: has `len`, and gives a tuple of arrays for a number.
        columns (list[str]): their names.
        options: has batch_size and num_parallel_workers.

    Returns:
        Dataset of MindSpore.

    Raises:
        UserError: more workers than MindSpore allows here.
    """
    try:
        data = ds.GeneratorDataset(source, columns, shuffle=False, python_multiprocessing=False,
                                   num_parallel_workers=options.num_parallel_workers)
    except ValueError as error:
        raise UserError(str(error)) from error
    return data.batch(options.batch_size, drop_remainder=True)
