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
// Gradient of an adder layer's filters on a GPU, in two steps: sums over shares of the positions, see tile_gpu.h; then
// these become dw = mix * (sum dy * x - w * sum dy) + (1 - mix) * sum dy * sign(x - w).

#include "tile_gpu.h"

namespace {

// Of dy for each sum: its products with x, or with s = sat(inf * (x - w) + 1/2), where sat limits to 0 .. 1: s is 1,
// 1/2 or 0 as x - w is positive, zero or negative, so that sign(x - w) = 2 s - 1.
enum Sum { kOfProducts, kOfSigns };

constexpr float kInfinite = 8.5e37f;  // enough for any difference, and finite, for 0 * kInfinite to be 0

// The sums of a share of the tiles, and those of dy. A thread has kFilters x kTaps sums; they are written as they lie
// in the threads: [share, group, tile of filters, tile of taps, sum, thread]. Threads that differ only in their slice
// of the positions add up theirs before.
template <Sum kind, int kFilters>
__device__ inline void WeightGrad(const Call &call) {
  if (kind == kOfSigns && *call.mix == 1.0f) return;
  const Tiles &tiles = call.tiles;
  int block = blockIdx.x;
  const int tap_tile = block % call.tap_tiles, lane_tile = (block /= call.tap_tiles) % call.lane_tiles;
  const int group = (block /= call.lane_tiles) % call.groups, share = block / call.groups;
  const int wide = call.lanes * kFilters, pitch = call.pitch, area = call.kernel * call.kernel;
  const int matrix = call.lanes * call.along, member = threadIdx.x % matrix, slice = threadIdx.x / matrix;
  const int lane = member % call.lanes * kFilters, first_filter = lane_tile * wide;
  const int first_tap = tap_tile * call.along * kTaps, own_tap = first_tap + member / call.lanes * kTaps;
  const int first_channel = first_tap / area, channels = min(call.planes, call.channels - first_channel);
  const int slices = call.slice_rows * call.slice_images;  // no more threads than these have positions
  const int slice_row = slice % call.slice_rows, slice_image = slice / call.slice_rows;
  const int in_plane = call.height * call.width, out_plane = call.out_height * call.out_width;
  Window seen{{}, tiles.images, (tiles.rows - 1) * call.stride + call.kernel,
              (tiles.columns - 1) * call.stride + call.kernel, call.groups * call.channels * in_plane,
              // Rows and columns that no output sees count as outside.
              min(call.height, (call.out_height - 1) * call.stride + call.kernel - call.padding),
              min(call.width, (call.out_width - 1) * call.stride + call.kernel - call.padding), call.width};
  Window outputs{{}, tiles.images, tiles.rows, tiles.columns, call.groups * call.filters * out_plane,
                 call.out_height, call.out_width, call.out_width};
  const int size = seen.Size(), positions = outputs.Size();
  float *const buffers = reinterpret_cast<float *>(memory);
  int *const seen_table = reinterpret_cast<int *>(buffers + 2 * call.buffer), *const table = seen_table + size;

  int from[kTaps];  // where the inputs start that a tap sees, among those of a buffer
  float weights[kFilters][kTaps];
#pragma unroll
  for (int t = 0; t < kTaps; ++t) {
    const int tap = min(own_tap + t, call.channels * area - 1), channel = tap / area - first_channel;
    const int row = slice_image * seen.rows + slice_row * call.stride + tap % area / call.kernel;
    from[t] = (positions * pitch + channel * size + row * seen.columns + tap % call.kernel) * kBytes;
#pragma unroll
    for (int f = 0; f < kFilters; ++f) {
      const int filter = group * call.filters + min(first_filter + lane + f, call.filters - 1);
      if (kind == kOfSigns) weights[f][t] = call.w[static_cast<long long>(filter) * call.channels * area + tap];
    }
  }
  const int dy_from = ((slice_image * tiles.rows + slice_row) * tiles.columns * pitch + lane) * kBytes;

  float sum[kFilters][kTaps] = {}, dy_sum = 0.0f;
  Pipeline((tiles.count - share + call.shares - 1) / call.shares, buffers, call.buffer, [&](int step, float *buffer) {
    outputs.start = StartOf(tiles, share + step * call.shares);
    seen.start = {outputs.start.image, outputs.start.row * call.stride - call.padding,
                  outputs.start.column * call.stride - call.padding};
    __syncthreads();  // the tables may be in use
    seen.Locate(call.batch, seen_table);
    outputs.Locate(call.batch, table);
    __syncthreads();
    const float *const x = call.x + static_cast<long long>(seen.start.image) * seen.image_step +
                           (static_cast<long long>(group) * call.channels + first_channel) * in_plane;
    const float *const dy = call.dy + static_cast<long long>(outputs.start.image) * outputs.image_step +
                            (static_cast<long long>(group) * call.filters + first_filter) * out_plane;
    StagePlanes(seen_table, size, x, in_plane, channels, buffer + positions * pitch);
    for (int f = threadIdx.x / 32; f < wide; f += blockDim.x / 32)
      for (int q = threadIdx.x % 32; q < positions; q += 32)
        CopyAsync(buffer + q * pitch + f, dy + f * out_plane + table[q],
                  table[q] >= 0 && first_filter + f < call.filters);
  }, [&](int, const float *buffer) {
    const int begin = (buffer - buffers) * kBytes;
    for (int image = 0; image < tiles.images && slice < slices; image += call.slice_images)
      for (int row = 0; row < tiles.rows; row += call.slice_rows) {
        int at = begin + (image * seen.rows + row * call.stride) * seen.columns * kBytes;
        int dy_at = begin + (image * tiles.rows + row) * tiles.columns * pitch * kBytes;
#pragma unroll 2
        for (int column = 0; column < tiles.columns; ++column, at += call.stride * kBytes, dy_at += pitch * kBytes) {
          float gradients[kFilters];
          Staged(dy_from + dy_at, gradients);
#pragma unroll
          for (int t = 0; t < kTaps; ++t) {
            const float value = Staged<float>(from[t] + at);
#pragma unroll
            for (int f = 0; f < kFilters; ++f)
              sum[f][t] += gradients[f] * (kind == kOfProducts
                                               ? value
                                               : __saturatef((value - weights[f][t]) * kInfinite + 0.5f));
          }
        }
      }
    if (kind == kOfProducts && tap_tile == 0 && threadIdx.x < blockDim.x / wide * wide)
      for (int q = threadIdx.x / wide; q < positions; q += blockDim.x / wide)
        dy_sum += buffer[q * pitch + threadIdx.x % wide];
  });

  for (int left = slices; left > 1; left = (left + 1) / 2) {
    const int half = (left + 1) / 2;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kFilters * kTaps; ++i)
      if (slice >= half && slice < left)
        buffers[((slice - half) * kFilters * kTaps + i) * matrix + member] = sum[i / kTaps][i % kTaps];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < kFilters * kTaps; ++i)
      if (slice < left - half)
        sum[i / kTaps][i % kTaps] += buffers[(slice * kFilters * kTaps + i) * matrix + member];
  }
#pragma unroll
  for (int i = 0; i < kFilters * kTaps; ++i)
    if (slice == 0)
      call.sums[(static_cast<long long>(blockIdx.x) * kFilters * kTaps + i) * matrix + member] =
          sum[i / kTaps][i % kTaps];

  if (kind == kOfSigns || tap_tile > 0) return;
  __syncthreads();
  buffers[threadIdx.x] = dy_sum;
  __syncthreads();
  if (threadIdx.x >= wide) return;
  for (int i = threadIdx.x + wide; i < blockDim.x / wide * wide; i += wide) dy_sum += buffers[i];
  call.dy_sums[(static_cast<long long>(share) * call.groups + group) * call.dy_filters + first_filter + threadIdx.x] =
      dy_sum;
}

// dw from the sums of all shares: the products' part is written, the signs' is added to it.
template <Sum kind, int kFilters>
__device__ inline void Combine(const Call &call) {
  if (kind == kOfSigns && *call.mix == 1.0f) return;
  const int matrix = call.lanes * call.along, each = kFilters * kTaps * matrix;  // sums of a block
  const int blocks = call.groups * call.lane_tiles * call.tap_tiles, wide = call.lanes * kFilters;
  const long long total = static_cast<long long>(blocks) * each;
  const long long own = static_cast<long long>(blockIdx.x) * kCombined + threadIdx.x % kCombined;
  const int block = min(own, total - 1) / each, i = own % each / matrix, member = own % matrix;
  const int lane_tile = block / call.tap_tiles % call.lane_tiles, group = block / call.tap_tiles / call.lane_tiles;
  const int filter = lane_tile * wide + member % call.lanes * kFilters + i / kTaps;
  const int tap = (block % call.tap_tiles * call.along + member / call.lanes) * kTaps + i % kTaps;
  const int taps = call.channels * call.kernel * call.kernel;
  float sum = 0.0f;
  for (int share = threadIdx.x / kCombined; own < total && share < call.shares; share += kCombiners)
    sum += call.sums[share * total + own];
  float dy_sum = 0.0f;
  for (int share = threadIdx.x / kCombined; filter < call.filters && share < call.dy_shares; share += kCombiners)
    dy_sum += call.dy_sums[(share * call.groups + group) * call.dy_filters + filter];
  float *const shared = reinterpret_cast<float *>(memory);
  shared[threadIdx.x] = sum;
  shared[threadIdx.x + blockDim.x] = dy_sum;
  __syncthreads();
  if (threadIdx.x >= kCombined || own >= total || filter >= call.filters || tap >= taps) return;
  double sums = 0.0, dy_sums = 0.0;
  for (int part = 0; part < kCombiners; ++part) {
    sums += shared[part * kCombined + threadIdx.x];
    dy_sums += shared[part * kCombined + threadIdx.x + blockDim.x];
  }
  const long long at = (static_cast<long long>(group) * call.filters + filter) * taps + tap;
  const float mix = *call.mix;
  if (kind == kOfSigns) {
    call.out[at] += (1.0f - mix) * static_cast<float>(2.0 * sums - dy_sums);
  } else {
    const float linear = static_cast<float>(sums - call.w[at] * dy_sums);
    call.out[at] = mix == 0.0f ? linear != linear ? linear : 0.0f : mix * linear;  // signs would hide a NaN
  }
}

}  // namespace

KERNEL(Products, Call, WeightGrad<kOfProducts, kLanes>)
KERNEL(ProductsSingle, Call, WeightGrad<kOfProducts, 1>)
KERNEL(Signs, Call, WeightGrad<kOfSigns, kSignLanes>)
KERNEL(SignsSingle, Call, WeightGrad<kOfSigns, 1>)
KERNEL(CombineProducts, Call, Combine<kOfProducts, kLanes>)
KERNEL(CombineProductsSingle, Call, Combine<kOfProducts, 1>)
KERNEL(CombineSigns, Call, Combine<kOfSigns, kSignLanes>)
KERNEL(CombineSignsSingle, Call, Combine<kOfSigns, 1>)
