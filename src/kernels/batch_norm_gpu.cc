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
// Batch norm in training on a GPU, by the names and with the tensors of batch_norm_cpu.cc. See batch_norm_gpu.cu.

#include <algorithm>
#include <cstdint>
#include <stdexcept>

#include "abi.h"
#include "call_gpu.h"
#include "driver.h"

namespace {

constexpr int64_t kNormBlocks = 8 * 132;          // fixed, for the same bits: what an H100 takes at once
constexpr int64_t kFewValues = 4 * kMostThreads;  // of a block

NormCall CallOf(const Tensor &x) {
  NormCall call = {};
  int64_t size = 1;
  for (int i = 2; i < x.rank; ++i) size *= x.shape[i];
  const int64_t count = x.shape[0] * size;
  constexpr int64_t most_values = INT32_MAX - kNormBlocks * kMostThreads;  // from which a step leads no further than int
  if (count > most_values) throw std::length_error("a batch norm is too large for the GPU kernel");
  call.x = x.Data();
  call.images = x.shape[0], call.channels = x.shape[1], call.size = size;
  const int64_t most = std::max<int64_t>(1, kNormBlocks / std::max<int64_t>(1, x.shape[1]));
  call.shares = std::clamp<int64_t>(count / kFewValues, 1, most);
  return call;
}

void Run(const char *sums, const char *result, NormCall call, void *stream) {
  const int64_t blocks = static_cast<int64_t>(call.channels) * call.shares, shared = 2 * kMostThreads * sizeof(float);
  if (blocks == 0) return;
  const Scratch scratch(2 * blocks, stream);
  call.sums = scratch.Data();
  driver->Launch(sums, blocks, kMostThreads, shared, &call, stream);
  driver->Launch(result, blocks, kMostThreads, shared, &call, stream);
}

}  // namespace

extern "C" {

int BatchNormForward(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *) {
  return Guarded({count, data, ranks, shapes, types}, [stream](Arguments &arguments) {
    NormCall call = CallOf(arguments.Next());
    for (const float **each : {&call.gamma, &call.beta, &call.moving_mean, &call.moving_variance, &call.options})
      *each = arguments.Next().Data();
    call.shortcut = arguments.NextBefore(6).Data();
    call.relu = arguments.Next().shape[0] > 1;
    for (float **each : {&call.out, &call.new_mean, &call.new_variance, &call.batch_mean, &call.batch_inverse})
      *each = arguments.Next().Data();
    Run("BatchNormMoments", "BatchNormNormalise", call, stream);
  });
}

int BatchNormGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *) {
  return Guarded({count, data, ranks, shapes, types}, [stream](Arguments &arguments) {
    const Tensor dy = arguments.Next();
    NormCall call = CallOf(arguments.Next());
    call.dy = dy.Data();
    for (const float **each : {&call.gamma, &call.mean, &call.inverse}) *each = arguments.Next().Data();
    call.y = arguments.NextBefore(4).Data();
    arguments.Next();  // the geometry, which says what the presence of y and dz says
    for (float **each : {&call.out, &call.dgamma, &call.dbeta}) *each = arguments.Next().Data();
    call.dz = arguments.NextBefore(0).Data();
    Run("BatchNormGradSums", "BatchNormInputGrad", call, stream);
  });
}

}  // extern "C"
