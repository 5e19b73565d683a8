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
# Download the official CIFAR binary archives, check and unpack them. After an interruption, run it again: it resumes.
# A mirror that holds the same archives can be named in CIFAR_URL.
set -euo pipefail
export LC_ALL=C

fail() {
  echo "error: $1" >&2
  exit 1
}

# Files are written as name:bytes.
describe() {
  case "$1" in
    cifar10)
      archive="cifar-10-binary.tar.gz" folder="cifar-10-batches-bin" md5="c32a1d4ab5d03f1284b67883e8d87530"
      files=(data_batch_{1..5}.bin:30730000 test_batch.bin:30730000) ;;
    cifar100)
      archive="cifar-100-binary.tar.gz" folder="cifar-100-binary" md5="03b5dce01913d631647c71ecec9e9cb8"
      files=(train.bin:153700000 test.bin:30740000) ;;
  esac
  url="${CIFAR_URL:-https://www.cs.toronto.edu/~kriz}"
  url="${url%/}/$archive"
  target="$data_path/$folder"
  part="$data_path/$archive.part"
}

complete() {
  local file
  for file in "${files[@]}"; do
    [[ -f "$1/${file%:*}" && "$(wc -c <"$1/${file%:*}")" -eq "${file#*:}" ]] || return 1
  done
}

# A folder that is not complete may hold the user's own work, so it is never replaced.
already_there() {
  if complete "$target"; then
    echo "$target: already complete, nothing to do"
  elif [[ -e "$target" || -L "$target" ]]; then
    fail "$target is not a complete data set: move it away and run this again"
  else
    return 1
  fi
}

# The lock keeps two runs, or a run and the curl that a killed run left behind, from writing the same file. It is only
# a second line of defence after the MD5, so a file system without locks is no reason to stop.
lock() {
  { exec 9>>"$part"; } 2>/dev/null || fail "cannot write to $data_path"
  flock -n 9 || { echo "waiting for another download of $archive to end"; flock 9; } || true
  [[ "$part" -ef /dev/fd/9 ]] || lock  # the other run has removed the file meanwhile
}

md5_is_right() {
  [[ "$(md5sum <"$part")" == "$md5  -" ]]
}

# Pass curl's progress bar, whose steps end in \r, on to stderr and print only the error message that may follow it.
show_bar() {
  local text bar
  while IFS= read -r -d $'\r' text; do printf '%s\r' "$text" >&2; done
  bar="${text%%curl: (*}"
  text="${text#"$bar"}"
  bar="${bar//$'\n'/}"
  [[ -z "$bar" ]] || echo "$bar" >&2
  echo "${text%%$'\n'*}"
}

get() {
  curl --fail --location --globoff --progress-bar --connect-timeout 30 --speed-limit 1 --speed-time 60 \
    --continue-at - --output "$part" -- "$url" 2>&1 | show_bar
}

fetch() {
  local reason code=0
  echo "downloading $url"
  reason="$(get)" || code=$?
  if [[ $code -eq 33 ]]; then
    echo "the server cannot resume a download, starting afresh"
    : >"$part"
    code=0
    reason="$(get)" || code=$?
  fi
  [[ $code -eq 0 ]] || fail "cannot download $url: ${reason:-curl exit code $code} (run this again to resume)"
}

# The data appear under their name by one rename and only when complete, whatever happens to the run or the disk.
unpack() {
  local strange
  strange="$(tar -tPvzf "$part" | grep -v '^[-d]'
    tar -tPzf "$part" | grep -vE "^$folder/(\.?[^./][^/]*)?\$")" || true
  if [[ -n "$strange" ]]; then
    rm -f -- "$part"
    fail "$archive holds something else than plain files in $folder, removed it: ${strange%%$'\n'*}"
  fi
  tmp="$data_path/.$folder.tmp"  # a fixed name, so that what a killed run left is cleared here
  rm -rf -- "$tmp"
  mkdir -- "$tmp"
  tar -xzf "$part" -C "$tmp" --no-same-owner --no-same-permissions && complete "$tmp/$folder" ||
    fail "cannot unpack $archive into $data_path (is the disk full?)"
  mv -T -- "$tmp/$folder" "$target"
  rm -rf -- "$tmp"
}

download() {
  local tool
  describe "$1"
  if already_there; then return; fi
  for tool in curl tar gzip md5sum flock; do
    command -v "$tool" >/dev/null || fail "$tool is needed, please install it"
  done
  mkdir -p -- "$data_path"
  lock
  if already_there; then return; fi  # the run that held the lock may have done the work
  md5_is_right || fetch
  if ! md5_is_right; then
    rm -f -- "$part"
    fail "$url has a wrong MD5 (not $md5), removed it: run this again to start afresh"
  fi
  unpack
  rm -f -- "$part"
  echo "$target: complete"
}

case "$#:${1:-cifar100}" in
  [012]:cifar10 | [012]:cifar100) names=("${1:-cifar100}") ;;
  [012]:all) names=(cifar10 cifar100) ;;
  *)
    echo "Usage: bash scripts/download_data.sh [cifar10|cifar100|all] [DATA_PATH]" >&2
    exit 1 ;;
esac
data_path="${2:-$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)/data}"
[[ "$data_path" == /* ]] || data_path="$PWD/$data_path"  # tar would take host:path for another machine

tmp="" part=""
trap 'rm -rf -- "$tmp"; [[ -s "$part" ]] || rm -f -- "$part"' EXIT
for name in "${names[@]}"; do download "$name"; done
