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
"""Methods of training: the only table of them. A new one is its file and a line here.

A method is a module with `Options`, the dataclass of the options that it takes, which refuses those that make no sense
together, and a function `train`:

    trainer     `src.training.trainer.Trainer` of the task
    options     its `Options`
    path        Path of the folder of the run
    settings    dict, see `src.training.run_folder.RunFolder`
"""
import dataclasses

from . import alone, ngd, pkkd
from ..config import refuse_unused
from ..tasks import TASKS

METHODS = {"alone": alone, "ngd": ngd, "pkkd": pkkd}


def check_options(config):
    """Refuse options of other methods than the chosen one, unless they are the defaults: raises UserError."""
    fields = {name: {field.name for field in dataclasses.fields(method.Options)} for name, method in METHODS.items()}
    of_tasks = {field.name for task in TASKS.values() for field in dataclasses.fields(task.Options)}
    refuse_unused(config, set().union(*fields.values()) - fields[config.method] - of_tasks, f"method {config.method}")
