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
# Download the official archives of CIFAR and MNIST, check and unpack them. After an interruption, run it again: it
# resumes. Mirrors that hold the same archives can be named in CIFAR_URL and MNIST_URL. A copy of this file serves alone.
set -euo pipefail
export LC_ALL=C

longest=262144  # KiB; the longest archive has 166,067

fail() {
  echo "error: $1" >&2
  exit 1
}

# Archives are written as name:md5, files as name:bytes.
describe() {
  server="${CIFAR_URL:-https://www.cs.toronto.edu/~kriz}"
  case "$1" in
    cifar10)
      folder="cifar-10-batches-bin" archives=(cifar-10-binary.tar.gz:c32a1d4ab5d03f1284b67883e8d87530)
      files=(data_batch_{1..5}.bin:30730000 test_batch.bin:30730000) ;;
    cifar100)
      folder="cifar-100-binary" archives=(cifar-100-binary.tar.gz:03b5dce01913d631647c71ecec9e9cb8)
      files=(train.bin:153700000 test.bin:30740000) ;;
    mnist)
      server="${MNIST_URL:-https://ossci-datasets.s3.amazonaws.com/mnist}" folder="mnist"
      archives=(train-images-idx3-ubyte.gz:f68b3c2dcbeaaa9fbdd348bbdeb94873
                train-labels-idx1-ubyte.gz:d53e105ee54ea40749a09fcbcd1e9432
                t10k-images-idx3-ubyte.gz:9fb629c4189551a2d022fa330f9573f3
                t10k-labels-idx1-ubyte.gz:ec29112dd5afa0611ce80d1b7f02629c)
      files=(train-images-idx3-ubyte:47040016 train-labels-idx1-ubyte:60008
             t10k-images-idx3-ubyte:7840016 t10k-labels-idx1-ubyte:10008) ;;
  esac
  target="$data_path/$folder"
}

# One archive of the data set: its name, where it comes from, and what has come of it.
choose() {
  archive="${1%:*}" md5="${1#*:}"
  url="${server%/}/$archive"
  part="$data_path/$archive.part"
  [[ -f "$part" && ! -L "$part" ]] || rm -f -- "$part" 2>/dev/null || true  # what a link points to is not ours to write
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

# The lock keeps two runs, or a run and the curl that a killed run left behind, from writing the same files. It is on the
# data set's first archive, and only a second line of defence after the MD5, so a file system without locks is no reason
# to stop.
lock() {
  { exec 9>>"$part"; } 2>/dev/null || fail "cannot write to $data_path"
  flock -n 9 || { echo "waiting for another download of $folder to end"; flock 9; } || true
  [[ "$part" -ef /dev/fd/9 ]] || lock  # the other run has removed the file meanwhile
}

md5_is_right() {
  [[ -f "$part" && "$(md5sum <"$part")" == "$md5  -" ]]
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

# Whatever the server sends, no more than the limit comes onto the disk; the write behind it fails.
get() {
  (
    trap '' XFSZ
    ulimit -S -f "$longest" 2>/dev/null || true  # the user's own limit may be lower
    exec curl --fail --location --globoff --progress-bar --connect-timeout 30 --speed-limit 1 --speed-time 60 \
      --continue-at - --output "$part" -- "$url"
  ) 2>&1 | show_bar
}

too_long() {
  [[ -f "$part" && "$(wc -c <"$part")" -ge $((longest * 1024)) ]]
}

fetch() {
  local reason code=0
  echo "downloading $url"
  reason="$(get)" || code=$?
  # 416: what has come, and is wrong, is already as long as the archive.
  if [[ $code -eq 33 || "$reason" == *"error: 416"* ]]; then
    echo "the server cannot resume a download, starting afresh"
    : >"$part"
    code=0
    reason="$(get)" || code=$?
  fi
  [[ $code -eq 0 ]] || too_long ||
    fail "cannot download $url: ${reason:-curl exit code $code} (run this again to resume)"
}

get_archive() {
  md5_is_right || fetch
  md5_is_right && return
  rm -f -- "$part"
  fail "$url has a wrong MD5 (not $md5), removed it: run this again to start afresh"
}

check_members() {
  local strange
  strange="$(tar -tPvzf "$part" | grep -v '^[-d]'
    tar -tPzf "$part" | grep -vE "^$folder/(\.?[^./][^/]*)?\$")" || true
  if [[ -n "$strange" ]]; then
    rm -f -- "$part"
    fail "$archive holds something else than plain files in $folder, removed it: ${strange%%$'\n'*}"
  fi
}

# Unpack an archive into $tmp/$folder.
unpack() {
  if [[ "$archive" == *.tar.gz ]]; then
    check_members
    tar -xzf "$part" -C "$tmp" --no-same-owner --no-same-permissions
  else
    mkdir -p -- "$tmp/$folder"
    gzip -dc <"$part" >"$tmp/$folder/${archive%.gz}"
  fi
}

# The data appear under their name by one rename and only when complete, whatever happens to the run or the disk.
unpack_all() {
  local each
  tmp="$data_path/.$folder.tmp"  # a fixed name, so that what a killed run left is cleared here
  rm -rf -- "$tmp"
  mkdir -- "$tmp"
  for each in "${archives[@]}"; do
    choose "$each"
    unpack || fail "cannot unpack $archive into $data_path (is the disk full?)"
  done
  complete "$tmp/$folder" || fail "cannot unpack $folder into $data_path (is the disk full?)"
  mv -T -- "$tmp/$folder" "$target"
  rm -rf -- "$tmp"
  for each in "${archives[@]}"; do rm -f -- "$data_path/${each%:*}.part"; done
}

download() {
  local tool each
  describe "$1"
  if already_there; then return; fi
  for tool in curl tar gzip md5sum flock; do
    command -v "$tool" >/dev/null || fail "$tool is needed, please install it"
  done
  mkdir -p -- "$data_path"
  choose "${archives[0]}"
  lock
  if already_there; then return; fi  # the run that held the lock may have done the work
  for each in "${archives[@]}"; do
    choose "$each"
    get_archive
  done
  unpack_all
  echo "$target: complete"
}

case "$#:${1:-cifar100}" in
  [012]:cifar10 | [012]:cifar100 | [012]:mnist) names=("${1:-cifar100}") ;;
  [012]:all) names=(cifar10 cifar100 mnist) ;;
  *)
    echo "Usage: bash scripts/download_data.sh [cifar10|cifar100|mnist|all] [DATA_PATH]" >&2
    exit 1 ;;
esac
data_path="${2:-$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)/data}"
[[ "$data_path" == /* ]] || data_path="$PWD/$data_path"  # tar would take host:path for another machine

tmp="" part=""
trap 'rm -rf -- "$tmp"; [[ -s "$part" ]] || rm -f -- "$part"' EXIT
trap 'echo >&2; echo "error: interrupted (run this again to resume)" >&2; exit 130' INT
for name in "${names[@]}"; do download "$name"; done
