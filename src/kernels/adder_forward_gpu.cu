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
// Forward pass of an adder layer on a GPU, with all that stands behind it in an evaluation; see tile_gpu.h.

#include "tile_gpu.h"

namespace {

// y = -sum |x - w|, or -1/2 sum (x - w)^2; then scale, shift, shortcut and ReLU, if there are any. A thread has
// kPositions x kFilters sums.
template <int norm, int kPositions, int kFilters>
__device__ inline void Forward(const Call &call) {
  const Tiles &tiles = call.tiles;
  const int tile = blockIdx.x % tiles.count, lane_tile = blockIdx.x / tiles.count % call.lane_tiles;
  const int group = blockIdx.x / tiles.count / call.lane_tiles;
  const int wide = call.lanes * kFilters, pitch = call.pitch, area = call.kernel * call.kernel;
  const int plane = call.height * call.width, along = threadIdx.x % call.along;
  const int lane = threadIdx.x / call.along * kFilters, first_filter = lane_tile * wide;
  const Place start = StartOf(tiles, tile);
  const Window window{{start.image, start.row * call.stride - call.padding, start.column * call.stride - call.padding},
                      tiles.images, (tiles.rows - 1) * call.stride + call.kernel,
                      (tiles.columns - 1) * call.stride + call.kernel, call.groups * call.channels * plane,
                      call.height, call.width, call.width};
  const int size = window.Size();
  float *const buffers = reinterpret_cast<float *>(memory);
  int *const table = reinterpret_cast<int *>(buffers + 2 * call.buffer);
  const float *const x = call.x + static_cast<long long>(start.image) * window.image_step +
                         static_cast<long long>(group) * call.channels * plane;
  const float *const w = call.w + (static_cast<long long>(group) * call.filters + first_filter) * call.channels * area;

  int from[kPositions];  // where a position's window starts, among the inputs of a buffer
#pragma unroll
  for (int p = 0; p < kPositions; ++p) {
    const Place place = PlaceOf(tiles, p * call.along + along);
    const int row = place.image * window.rows + place.row * call.stride;
    const int at = place.image < tiles.images ? row * window.columns + place.column * call.stride : 0;
    from[p] = (call.planes * area * pitch + at) * kBytes;
  }
  window.Locate(call.batch, table);
  __syncthreads();

  float sum[kPositions][kFilters] = {};
  Pipeline((call.channels + call.planes - 1) / call.planes, buffers, call.buffer, [&](int step, float *buffer) {
    const int first = step * call.planes, count = min(call.planes, call.channels - first), taps = count * area;
    StagePlanes(table, size, x + static_cast<long long>(first) * plane, plane, count,
                buffer + call.planes * area * pitch);
    for (int f = threadIdx.x / 32; f < wide; f += blockDim.x / 32)
      for (int t = threadIdx.x % 32; t < taps; t += 32)
        CopyAsync(buffer + t * pitch + f, w + (f * call.channels + first) * area + t, first_filter + f < call.filters);
  }, [&](int step, const float *buffer) {
    const int count = min(call.planes, call.channels - step * call.planes);
    const int begin = (buffer - buffers) * kBytes;
    int tap = begin + lane * kBytes;
    for (int c = 0; c < count; ++c)
      for (int i = 0; i < call.kernel; ++i) {
        const int row = begin + (c * size + i * window.columns) * kBytes;
#pragma unroll 3
        for (int j = 0; j < call.kernel; ++j, tap += pitch * kBytes) {
          float filters[kFilters];
          Staged(tap, filters);
#pragma unroll
          for (int p = 0; p < kPositions; ++p) {
            const float value = Staged<float>(from[p] + row + j * kBytes);
#pragma unroll
            for (int f = 0; f < kFilters; ++f) {
              const float d = value - filters[f];
              sum[p][f] = norm == 1 ? sum[p][f] + fabsf(d) : sum[p][f] + d * d;
            }
          }
        }
      }
  });

#pragma unroll
  for (int p = 0; p < kPositions; ++p) {
    const Place place = PlaceOf(tiles, p * call.along + along);
    const int image = start.image + place.image, row = start.row + place.row, column = start.column + place.column;
    if (place.image >= tiles.images || image >= call.batch || row >= call.out_height || column >= call.out_width)
      continue;
#pragma unroll
    for (int f = 0; f < kFilters; ++f) {
      if (first_filter + lane + f >= call.filters) continue;
      const int filter = group * call.filters + first_filter + lane + f;
      const long long at = ((static_cast<long long>(image) * call.groups * call.filters + filter) * call.out_height +
                            row) * call.out_width + column;
      float y = norm == 1 ? -sum[p][f] : -0.5f * sum[p][f];
      if (call.scale) y = y * call.scale[filter] + call.shift[filter];
      if (call.shortcut) y += call.shortcut[at];
      call.out[at] = call.relu && y < 0.0f ? 0.0f : y;
    }
  }
}

}  // namespace

KERNEL(Forward1, Call, Forward<1, 4, kLanes>)
KERNEL(Forward1Large, Call, Forward<1, 8, kLanes>)
KERNEL(Forward1Single, Call, Forward<1, 4, 1>)
KERNEL(Forward2, Call, Forward<2, 4, kLanes>)
KERNEL(Forward2Large, Call, Forward<2, 8, kLanes>)
KERNEL(Forward2Single, Call, Forward<2, 4, 1>)
