// Copyright 2026 The AdderNGD for MindSpore Authors
//
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//
// http://www.apache.org/licenses/LICENSE-2.0
//
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
// ============================================================================
// What CUDA's language adds to C++, as far as src/kernels/*.cu use it: kernels compiled with this header run on a CPU.
#ifndef ADDERNGD_CUDA_ON_CPU_H_
#define ADDERNGD_CUDA_ON_CPU_H_

#include <algorithm>
#include <cmath>

#define __device__
#define __shared__
#define KERNEL(name, Type, ...) \
  extern "C" void name(const void *call) { __VA_ARGS__(*static_cast<const Type *>(call)); }

struct alignas(16) float4 {
  float x, y, z, w;
};
struct Index {
  unsigned x;
};
extern Index threadIdx, blockIdx, blockDim;

using std::max;
using std::min;
using std::sqrt;

void __syncthreads();
inline float __saturatef(float value) { return value > 0.0f ? std::min(value, 1.0f) : 0.0f; }  // of NaN, too

#endif  // ADDERNGD_CUDA_ON_CPU_H_
