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
// Batch norm in training on a GPU, with the shortcut and the ReLU behind it, and its gradients: what batch_norm_cpu.cc
// computes, in two kernels each. The first leaves two sums for each channel and share of its values, from which the
// blocks of the second work out, each for itself, what they need.

#include "call_gpu.h"

extern __shared__ float4 memory[];

namespace {

// Calls work(i) for the places in x of this block's share of a channel's values.
template <typename Work>
__device__ inline void ForEachValue(const NormCall &call, Work work) {
  const int channel = blockIdx.x / call.shares, share = blockIdx.x % call.shares;
  for (int i = share * blockDim.x + threadIdx.x; i < call.images * call.size; i += call.shares * blockDim.x)
    work((static_cast<long long>(i / call.size) * call.channels + channel) * call.size + i % call.size);
}

// Writes the sums of a block's threads.
__device__ inline void WriteSums(const NormCall &call, float first, float second) {
  float *const firsts = reinterpret_cast<float *>(memory), *const seconds = firsts + blockDim.x;
  firsts[threadIdx.x] = first;
  seconds[threadIdx.x] = second;
  for (int half = blockDim.x / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x >= half) continue;
    firsts[threadIdx.x] += firsts[threadIdx.x + half];
    seconds[threadIdx.x] += seconds[threadIdx.x + half];
  }
  if (threadIdx.x > 0) return;
  call.sums[2 * blockIdx.x] = firsts[0];
  call.sums[2 * blockIdx.x + 1] = seconds[0];
}

struct Sums {
  double first, second;
};

// Of a channel.
__device__ inline Sums ReadSums(const NormCall &call, int channel) {
  Sums sums = {};
  for (int i = channel * call.shares; i < (channel + 1) * call.shares; ++i) {
    sums.first += call.sums[2 * i];
    sums.second += call.sums[2 * i + 1];
  }
  return sums;
}

// What a channel's values are counted from, so that no large sums cancel: one of them.
__device__ inline float OriginOf(const NormCall &call, int channel) {
  return call.images * call.size > 0 ? call.x[static_cast<long long>(channel) * call.size] : 0.0f;
}

__device__ inline void Moments(const NormCall &call) {
  const float origin = OriginOf(call, blockIdx.x / call.shares);
  float sum = 0.0f, squares = 0.0f;
  ForEachValue(call, [&](long long i) {
    const float d = call.x[i] - origin;
    sum += d;
    squares += d * d;
  });
  WriteSums(call, sum, squares);
}

// y = relu(scale * (x - mean) + beta + shortcut).
__device__ inline void Normalise(const NormCall &call) {
  float *const shared = reinterpret_cast<float *>(memory);
  const int channel = blockIdx.x / call.shares;
  if (threadIdx.x == 0) {
    // The variance of one value, and of none, is 0; none leave the moving statistics as they are.
    const int count = call.images * call.size;
    const double many = max(count, 1);
    const Sums sums = ReadSums(call, channel);
    const double mean = OriginOf(call, channel) + sums.first / many;
    const double squares = sums.second - sums.first * sums.first / many;  // of deviations from the mean
    const double positive = squares < 0.0 ? 0.0 : squares;
    const double inverse = 1.0 / sqrt(positive / many + call.options[1]);
    shared[0] = static_cast<float>(mean);
    shared[1] = static_cast<float>(call.gamma[channel] * inverse);
    if (blockIdx.x % call.shares == 0) {
      const double keep = count > 0 ? call.options[0] : 1.0;
      const double unbiased = positive / max(count - 1, 1);
      call.new_mean[channel] = static_cast<float>(keep * call.moving_mean[channel] + (1.0 - keep) * mean);
      call.new_variance[channel] = static_cast<float>(keep * call.moving_variance[channel] + (1.0 - keep) * unbiased);
      call.batch_mean[channel] = shared[0];
      call.batch_inverse[channel] = static_cast<float>(inverse);
    }
  }
  __syncthreads();
  const float mean = shared[0], scale = shared[1], shift = call.beta[channel];
  ForEachValue(call, [&](long long i) {
    float y = (call.x[i] - mean) * scale + shift;
    if (call.shortcut) y += call.shortcut[i];
    call.out[i] = call.relu && y < 0.0f ? 0.0f : y;
  });
}

// dy where ReLU let it through.
__device__ inline float Through(const NormCall &call, long long i) {
  return call.y && call.y[i] <= 0.0f ? 0.0f : call.dy[i];
}

__device__ inline void GradSums(const NormCall &call) {
  const float mean = call.mean[blockIdx.x / call.shares];
  float sum = 0.0f, product = 0.0f;
  ForEachValue(call, [&](long long i) {
    const float dz = Through(call, i);
    sum += dz;
    product += dz * (call.x[i] - mean);
  });
  WriteSums(call, sum, product);
}

// dx, dgamma, dbeta and, where it is wanted, dz.
__device__ inline void NormGrad(const NormCall &call) {
  float *const shared = reinterpret_cast<float *>(memory);
  const int channel = blockIdx.x / call.shares;
  const float mean = call.mean[channel], inverse = call.inverse[channel];
  if (threadIdx.x == 0) {
    const Sums sums = ReadSums(call, channel);
    const double many = max(call.images * call.size, 1);
    shared[0] = static_cast<float>(sums.first / many);
    shared[1] = static_cast<float>(sums.second * inverse * inverse / many);
    if (blockIdx.x % call.shares == 0) {
      call.dgamma[channel] = static_cast<float>(sums.second * inverse);
      call.dbeta[channel] = static_cast<float>(sums.first);
    }
  }
  __syncthreads();
  const float constant = shared[0], slope = shared[1], scale = call.gamma[channel] * inverse;
  ForEachValue(call, [&](long long i) {
    const float dz = Through(call, i);
    call.out[i] = (dz - constant - (call.x[i] - mean) * slope) * scale;
    if (call.dz) call.dz[i] = dz;
  });
}

}  // namespace

KERNEL(BatchNormMoments, NormCall, Moments)
KERNEL(BatchNormNormalise, NormCall, Normalise)
KERNEL(BatchNormGradSums, NormCall, GradSums)
KERNEL(BatchNormInputGrad, NormCall, NormGrad)
