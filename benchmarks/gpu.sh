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
# All that is to be known of a GPU: tests, accuracy, speed, training, resuming. Before it come scripts/set_up_gpu.sh and
# `.venv/bin/pip install pytest`, with `torch` for the CNNs. DATA_PATH, data if not given, holds CIFAR-100. What each step
# prints goes to OUTPUT/STEP.log, times and exit codes to OUTPUT/summary.txt, tables to OUTPUT/*_gpu.json. The most
# important comes first; a step that fails or takes too long ends alone, and all of them within 20 minutes at most.
source "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/common.sh"
usage="OUTPUT [DATA_PATH]"
[[ $# -ge 1 && $# -le 2 ]] || { echo "Usage: bash benchmarks/${0##*/} $usage" >&2; exit 1; }
mkdir -p -- "$1"
output="$(cd -- "$1" && pwd)" folder="${2:-$root/data}"
data="$(cd -- "$folder" 2>/dev/null && pwd)" || fail "there is no folder $folder: run bash scripts/download_data.sh"
choose_python
"$python" -c 'import pytest' 2>/dev/null || fail "no pytest for $python: run $python -m pip install pytest"
cd -- "$root"

# step NAME SECONDS COMMAND...
step() {
  local name="$1" limit="$2" began="$SECONDS" code=0
  shift 2
  timeout "$limit" "$@" >"$output/$name.log" 2>&1 || code=$?
  echo "$name: exit code $code, $((SECONDS - began)) s" | tee -a "$output/summary.txt"
}

run() { step "$1" "$2" "$python" "${@:3}"; }

# Starts a command, and interrupts it behind an epoch of the run in a folder.
for_an_epoch='
import pathlib, signal, subprocess, sys, time
rows, began = pathlib.Path(sys.argv[1], "metrics.csv"), time.time()
process = subprocess.Popen([sys.executable, *sys.argv[2:]])
while process.poll() is None and not (rows.exists() and rows.stat().st_mtime > began):
    time.sleep(0.1)
time.sleep(2)  # the state follows the row
process.send_signal(signal.SIGINT)
sys.exit(process.wait() not in (0, 130))'

gpu=(--device_target GPU)
cifar=(--dataset cifar100 --data_path "$data") small=(--dataset synthetic --data_path "$output/data")
evaluation=(eval.py "${gpu[@]}" --checkpoint_file_path ckpt --eval_dataset_path "$data")
training=(train.py "${gpu[@]}" --eval_interval 1000)
compare=(-m benchmarks.compare "${gpu[@]}" --rounds 5)

nvidia-smi >"$output/nvidia_smi.log" 2>&1 || true
run tests 150 -m pytest -m gpu -q tests/test_gpu_kernel.py
run evaluate 60 "${evaluation[@]}"
run train 90 "${training[@]}" "${cifar[@]}" --epoch_size 6 --output_path "$output/train"
run layers 150 "${compare[@]}" --parts layers --output "$output/layers_gpu.json"
run networks 200 "${compare[@]}" --parts networks --output "$output/networks_gpu.json"
run composed 90 "${compare[@]}" --parts composed --composed_batch_size 256 --output "$output/composed_gpu.json"
run growth 60 "${compare[@]}" --parts growth --output "$output/growth_gpu.json"
# Resuming, from one device to the other and back: the state is the same file. The first two runs end after an epoch.
resumed=(train.py "${small[@]}" --epoch_size 40 --eval_interval 1000 --resume --output_path "$output/resumed")
run resume_1_GPU 60 -c "$for_an_epoch" "$output/resumed" "${resumed[@]}" --device_target GPU
run resume_2_CPU 60 -c "$for_an_epoch" "$output/resumed" "${resumed[@]}" --device_target CPU
run resume_3_GPU 60 "${resumed[@]}" --device_target GPU
step distributed 60 bash scripts/run_distribute_train.sh 1 "$output/data" GPU --dataset synthetic --epoch_size 1 \
  --output_path "$output/distributed"
cat "$output/summary.txt"
