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
# Train data-parallel on DEVICE_NUM devices of this machine with MindSpore's msrun. The environment may say more:
#   NODE_NUM, NODE_RANK, MASTER_ADDR, MASTER_PORT   several machines: run this on each, with its own NODE_RANK
#   RANK_TABLE_FILE                                 Ascend's rank table
#   LOG_DIR                                         logs of msrun and of every process, if not set msrun_log in the
#                                                   folder of --output_path
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
usage="[DEVICE_NUM] [DATA_PATH] [DEVICE_TARGET] [options of train.py]"

number() {
  [[ "$2" =~ ^(0|[1-9][0-9]*)$ && "$2" -ge "$3" ]] || wrong "$1 is a number from $3 on, not $2"
}

# What the failed process says of itself, or else the end of all logs.
show_errors() {
  grep -hs '^error: ' -- "${logs[@]}" | sort -u >&2 || tail -n 20 -- "$log_dir/msrun.log" "${logs[@]}" >&2 || true
  echo "the logs are in $log_dir" >&2
}

device_num=8
if [[ $# -gt 0 && "$1" != -* ]]; then device_num="$1"; shift; fi
read_arguments data_path device_target -- "$@"
nodes="${NODE_NUM:-1}" node="${NODE_RANK:-0}" log_dir="${LOG_DIR:-$(option output_path output)/msrun_log}"
number DEVICE_NUM "$device_num" 1
number NODE_NUM "$nodes" 1
number NODE_RANK "$node" 0
choose_python
"$python" -c 'import importlib.util as util, sys; sys.exit(util.find_spec("mindspore") is None)' ||
  fail "mindspore is not installed for $python: run bash scripts/quick_start.sh"
if [[ "$nodes" -gt 1 ]]; then
  [[ -n "${MASTER_ADDR:-}" && -n "${NODE_RANK:-}" ]] || wrong "several machines need MASTER_ADDR and NODE_RANK"
  port="${MASTER_PORT:-8118}"
else
  port="${MASTER_PORT:-$("$python" -c 'import socket as s; x = s.socket(); x.bind(("", 0)); print(x.getsockname()[1])')}"
fi
ranks="$((nodes * device_num))"
command=(--worker_num="$ranks" --local_worker_num="$device_num" --node_rank="$node" --join=True
  --master_addr="${MASTER_ADDR:-127.0.0.1}" --master_port="$port"
  --log_dir="$log_dir" --tail_worker_log="$ranks")  # no such rank: the log of the first is shown below, without msrun's
if [[ -n "${RANK_TABLE_FILE:-}" ]]; then
  [[ -f "$RANK_TABLE_FILE" ]] || wrong "$RANK_TABLE_FILE: no such file"
  command+=(--rank_table_file="$RANK_TABLE_FILE")
fi
logs=()
for ((rank = node * device_num; rank < (node + 1) * device_num; rank++)); do logs+=("$log_dir/worker_$rank.log"); done
mkdir -p -- "$log_dir" || fail "cannot create $log_dir"
# msrun holds the lock as well, whatever becomes of this script. Where a file system has no locks, there is none.
{ exec 9>"$log_dir/lock_$node"; } 2>/dev/null || fail "cannot write to $log_dir"
flock -n 9 || [[ $? -ne 1 ]] || fail "another run is writing to $log_dir: give it an --output_path of its own"
rm -f -- "$log_dir/msrun.log" "${logs[@]}"  # of an earlier run

# msrun looks its processes' Python up in PATH. Below errors, MindSpore logs a page of connection attempts.
export PATH="${python%/*}:$PATH" PYTHONUNBUFFERED=1 GLOG_v="${GLOG_v:-3}"
set -m  # a process group of its own, which hears Ctrl-C from here only
msrun_module='import ctypes, runpy; ctypes.CDLL(None).prctl(1, 2)  # SIGINT, should this script be killed
runpy.run_module("mindspore.parallel.cluster.run", run_name="__main__", alter_sys=True)'
"$python" -c "$msrun_module" "${command[@]}" "${python##*/}" "$root/train.py" --run_distribute \
  "${arguments[@]}" </dev/null >"$log_dir/msrun.log" 2>&1 &
msrun=$!
tail -n +1 -F -s 0.2 --pid="$msrun" -- "${logs[0]}" 2>/dev/null |
  grep --line-buffered -v '^\[INFO\] DISTRIBUTED.* Event base dispatch success' &  # logged at every level
set +m
# Of all signals, only SIGINT makes msrun end its processes.
trap 'kill -INT "$msrun" 2>/dev/null || true; wait; exit 130' INT
trap 'kill -INT "$msrun" 2>/dev/null || true; wait; exit 143' TERM HUP

# After a failure, msrun waits half a minute for its scheduler. Only other machines need it.
while kill -0 "$msrun" 2>/dev/null; do
  if [[ "$nodes" -eq 1 ]] && grep -qs 'Worker process .* exit with exception' "$log_dir/msrun.log"; then
    kill -INT "$msrun" 2>/dev/null || true
    break
  fi
  sleep 0.5
done
code=0
wait "$msrun" || code=$?
wait
failed="$(sed -n 's/.*Worker process .* exit with exception. Error code: \(-\?[0-9]*\).*/\1/p;T;q' "$log_dir/msrun.log")"
[[ -z "$failed" ]] || code="$((failed < 0 ? 128 - failed : failed))"
[[ "$code" -eq 0 ]] || show_errors
exit "$code"
