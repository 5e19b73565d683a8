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
# From a fresh machine to a trained, evaluated and exported network, on CPU and generated data. Run again, it goes on.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
usage="[options of train.py, but data, layer, device and output]"
read_arguments -- "$@"
for option in "$@"; do
  if [[ "$option" =~ ^--(dataset|data_path|class_num|layer|device_target|output_path|config_path)(=|$) ]]; then
    wrong "$option is not for the quick start, use scripts/run_standalone_train.sh"
  fi
done
set_up requirements.txt
cd -- "$root"
data=(--dataset synthetic --device_target CPU)
result="output/quick_start"
"$python" train.py "${data[@]}" --data_path data --output_path "$result" --resume --epoch_size 3 --batch_size 64 "$@"
"$python" eval.py "${data[@]}" --eval_dataset_path data --checkpoint_file_path "$result"
exec "$python" export.py "${data[@]}" --checkpoint_file_path "$result" --file_name "$result/adder_resnet20" \
  --file_format MINDIR --batch_size 1
