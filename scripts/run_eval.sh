#!/bin/bash
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
# Evaluate a checkpoint.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
usage="[CHECKPOINT_FILE_PATH] [DATA_PATH] [DEVICE_TARGET] [options of eval.py]"
read_arguments checkpoint_file_path eval_dataset_path device_target -- "$@"
choose_python
exec "$python" "$root/eval.py" "${arguments[@]}"
