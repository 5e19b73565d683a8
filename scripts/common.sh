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
# What the other scripts share; they source it. The current folder stays the user's, and so do relative paths.
set -euo pipefail

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
  echo "error: $1" >&2
  exit 1
}

# Wrong arguments. The script that sources this file says in `usage` which ones it takes.
wrong() {
  echo "error: $1" >&2
  echo "Usage: bash scripts/${0##*/} $usage" >&2
  exit 1
}

# read_arguments KEY... -- "$@": fill the array `arguments`. What stands before the first option are the values of the
# keys, in this order. A folder that is not given is the repository's, unless a --config_path file may name it.
read_arguments() {
  local keys=() key
  while [[ "$1" != -- ]]; do keys+=("$1"); shift; done
  shift
  if [[ "${1:-}" == -h || "${1:-}" == --help ]]; then
    echo "Usage: bash scripts/${0##*/} $usage"
    exit
  fi
  arguments=()
  for key in ${keys[@]+"${keys[@]}"}; do
    if [[ $# -gt 0 && "$1" != -* ]]; then
      check "$key" "$@"
      arguments+=("--$key" "$1")
      shift
    elif [[ " $* " != *" --config_path"* ]]; then
      case "$key" in
        data_path | eval_dataset_path) arguments+=("--$key" "$root/data") ;;
        checkpoint_file_path) arguments+=("--$key" "$root/ckpt") ;;
      esac
    fi
  done
  [[ $# -eq 0 || "$1" == -* ]] || wrong "unexpected argument $1"
  arguments+=("$@")
}

check() {
  case "$1:$2" in
    device_target:Ascend | device_target:GPU | device_target:CPU) ;;
    device_target:*) wrong "DEVICE_TARGET is Ascend, GPU or CPU, not $2" ;;
    file_format:MINDIR | file_format:AIR | file_format:ONNX) ;;
    file_format:*) wrong "FILE_FORMAT is MINDIR, AIR or ONNX, not $2" ;;
    *_path:*) [[ -e "$2" || " $* " =~ " --dataset"[\ =]"synthetic " ]] || wrong "$2: no such file or folder" ;;
  esac
}

# option NAME DEFAULT: the last value of an option in `arguments`, written in either way.
option() {
  local value="$2" i
  for ((i = 0; i < ${#arguments[@]}; i++)); do
    case "${arguments[i]}" in
      "--$1") value="${arguments[i + 1]:-}" ;;
      "--$1="*) value="${arguments[i]#*=}" ;;
    esac
  done
  echo "$value"
}

# Set `python`: that of the active virtual environment, else of the repository's, else the system's.
choose_python() {
  if [[ -z "${VIRTUAL_ENV:-}" && -x "$root/.venv/bin/python" ]]; then
    python="$root/.venv/bin/python"
    [[ ! -r "$root/.venv/gpu.sh" ]] || source "$root/.venv/gpu.sh"  # of set_up_gpu.sh
  else
    python="$(command -v python3 || command -v python)" ||
      fail "python3 is needed, please install Python 3.9 to 3.12"
  fi
}

# set_up REQUIREMENTS: install them into the repository's .venv and set `python` to it. A checksum kept there tells
# when there is nothing to do.
set_up() {
  local venv="$root/.venv" stamp wanted base
  python="$venv/bin/python" stamp="$venv/${1//\//-}.sha256"
  wanted="$(cat -- "$root/requirements.txt" "$root/$1" | sha256sum)"
  if [[ -x "$python" && "$(cat -- "$stamp" 2>/dev/null)" == "$wanted" ]]; then return; fi
  if ! "$python" -m pip --version >/dev/null 2>&1; then
    find_base
    echo "creating $venv with $("$base" --version)"
    "$base" -m venv --clear "$venv" || fail "cannot create $venv"
  fi
  echo "installing $1 into $venv: some minutes, 3 GB"
  "$python" -m pip install --quiet --disable-pip-version-check -r "$root/$1" ||
    fail "cannot install $1 (run this again to retry)"
  echo "$wanted" >"$stamp"
}

# Set `base` to a Python that mindspore 2.8.0 has wheels for.
find_base() {
  for base in python3 python3.12 python3.11 python3.10 python3.9; do
    if "$base" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info < (3, 13))' 2>/dev/null; then
      "$base" -c 'import ensurepip, venv' 2>/dev/null ||
        fail "$base has no venv module, please install it (Debian, Ubuntu: apt install python3-venv)"
      return
    fi
  done
  fail "Python 3.9 to 3.12 is needed for mindspore 2.8.0, found $(python3 --version 2>/dev/null || echo no python3)"
}
