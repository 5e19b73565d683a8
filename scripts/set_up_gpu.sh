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
# Make .venv ready for --device_target GPU on a machine with an NVIDIA driver and Python: no CUDA toolkit is needed.
# MindSpore's own kernels have to be compiled by the driver first, ten minutes on one processor; here all of them do it,
# once. Run again, it does what is left.
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
usage="(it takes no arguments)"
read_arguments -- "$@"
[[ $# -eq 0 ]] || wrong "unexpected argument $1"
find_base
driver=libcuda.so.1
"$base" -c "import ctypes, sys; sys.exit(ctypes.CDLL('$driver').cuInit(0))" 2>/dev/null ||
  fail "no NVIDIA GPU with a driver here: nvidia-smi has to show one, and LD_LIBRARY_PATH to name the folder of $driver"
set_up scripts/requirements_gpu.txt
cuda="$root/.venv/cuda"
mkdir -p -- "$cuda/bin" "$cuda/lib"
ln -sf -- "$root"/.venv/lib/python3*/site-packages/nvidia/*/lib/*.so* "$cuda/lib/"
# MindSpore asks it which CUDA there is, and has libraries for 11.6.
printf '#!/bin/sh\necho "Cuda compilation tools, release 11.6, V11.6.124"\n' >"$cuda/bin/nvcc"
chmod +x -- "$cuda/bin/nvcc"
cat >"$root/.venv/gpu.sh" <<'V'
# For MindSpore on GPU; sourced by activate and by the launchers in scripts/.
export CUDA_HOME="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)/cuda"
export LD_LIBRARY_PATH="$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export CUDA_CACHE_MAXSIZE=4294967296  # the driver keeps less than what is compiled ahead
V
activate="$root/.venv/bin/activate"
grep -qs gpu.sh -- "$activate" || echo '[ ! -r "$VIRTUAL_ENV/gpu.sh" ] || . "$VIRTUAL_ENV/gpu.sh"' >>"$activate"
source "$root/.venv/gpu.sh"
cd -- "$root"
"$python" scripts/compile_ahead.py
exec "$python" scripts/compile_ahead.py --try
