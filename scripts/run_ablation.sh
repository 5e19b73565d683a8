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
# What each part of norm-guided distillation adds: the same network and seed, with one part more in each run, one after
# the other; and weights with a teacher that was trained without centres. They are compared on 5,000 training images that
# are held out, unless --validation_size says otherwise. With --resume it all goes on where it was stopped. The
# teacher is trained once, by the first run, or given by --teacher_checkpoint_path; then no second one is trained.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
usage="[DATA_PATH] [DEVICE_TARGET] [options of train.py]"
read_arguments data_path device_target -- "$@"
choose_python
output="$(option output_path output)" trained="$(option teacher_checkpoint_path "")"
[[ -z "$(option config_path "")" ]] || wrong "--config_path is not for the ablation, each run has its own"

# run NAME PREFIX OPTION...: one run by the recipe of that prefix, in the folder NAME.
run() {
  echo "== $1"
  "$python" "$root/train.py" --config_path "$root/config/$2_resnet20_cifar100.yaml" --validation_size 5000 \
    "${arguments[@]}" --output_path "$output/$1" "${@:3}"
}

# last COLUMN FILE: the value in the last row of a table.
last() {
  awk -F, -v column="$1" 'NR == 1 { for (i = 1; i <= NF; i++) if ($i == column) at = i } END { print $at }' "$2"
}

teacher=() names=(vanilla logits features weights full)
if [[ -z "$trained" ]]; then teacher=(--teacher_checkpoint_path "$output/full/teacher/last.ckpt"); fi
run full adderngd
run vanilla adder
run logits adderngd "${teacher[@]}" --weight_gradient full --features_weight 0 --inherit false
run features adderngd "${teacher[@]}" --weight_gradient full --inherit false
run weights adderngd "${teacher[@]}" --weight_gradient full
if [[ -z "$trained" ]]; then
  run no_centres adderngd --weight_gradient full --intra_weight 0 --inter_weight 0
  names+=(no_centres)
fi

echo "== held-out accuracy after the last epoch; each run down to full has the parts of those above it"
for name in "${names[@]}"; do
  printf '%-16s %s\n' "$name" "$(last test_accuracy "$output/$name/metrics.csv")"
done
