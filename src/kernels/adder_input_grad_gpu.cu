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
// Gradient of an adder layer's input on a GPU; see tile_gpu.h.

#include "tile_gpu.h"

namespace {

// The inputs at rows row, row + stride, ... that are seen by the same taps of a window: `taps` of them from `first` on,
// the first of which belongs to output row `output` + index among these inputs. Columns likewise.
struct Phase {
  int first, taps, output;
};

__device__ inline Phase PhaseOf(const Call &call, int offset) {
  const int first = (offset + call.padding) % call.stride;
  return {first, first < call.kernel ? (call.kernel - first + call.stride - 1) / call.stride : 0,
          (offset + call.padding) / call.stride};
}

// dx = sum dy * clip(w - x, -1, 1) in norm 1, sum dy * (w - x) in norm 2. A thread has kInputs x kChannels sums.
//
// clip(w - x, -1, 1) = 2 sat(w / 2 + (1 - x) / 2) - 1, where sat limits to 0 .. 1 and is free: dx = 2 sum dy * sat(...)
// - sum dy, of which the last is the same for all channels. sat makes zero of NaN: what is NaN in x or w is told apart.
// From 2^24 on the 1/2 is lost beside x / 2: of w = x the clip is then -1 and not 0, also in the sign gradient, which is
// this one of values that are multiplied by 2^64.
template <int norm, int kInputs, int kChannels>
__device__ inline void InputGrad(const Call &call) {
  const Tiles &tiles = call.tiles;  // of a phase's inputs
  int block = blockIdx.x;
  const int tile = block % tiles.count, lane_tile = (block /= tiles.count) % call.lane_tiles;
  const int group = (block /= call.lane_tiles) % call.groups;
  const int phase = call.stride * call.stride - 1 - block / call.groups;
  const int row_offset = phase / call.stride, column_offset = phase % call.stride;
  const Phase down = PhaseOf(call, row_offset), across = PhaseOf(call, column_offset);
  const int wide = call.lanes * kChannels, pitch = call.pitch, area = call.kernel * call.kernel;
  const int taps = down.taps * across.taps, in_plane = call.height * call.width;
  const int out_plane = call.out_height * call.out_width, along = threadIdx.x % call.along;
  const int lane = threadIdx.x / call.along * kChannels, first_channel = lane_tile * wide;
  const Place start = StartOf(tiles, tile);
  const Window window{{start.image, start.row + down.output - max(down.taps - 1, 0),
                       start.column + across.output - max(across.taps - 1, 0)}, tiles.images,
                      tiles.rows + max(down.taps - 1, 0), tiles.columns + max(across.taps - 1, 0),
                      call.groups * call.filters * out_plane, call.out_height, call.out_width,
                      call.out_width};
  const int size = window.Size();
  float *const buffers = reinterpret_cast<float *>(memory), *const broken = buffers + 2 * call.buffer;
  int *const table = reinterpret_cast<int *>(broken + wide);
  const float *const dy = call.dy + static_cast<long long>(start.image) * window.image_step +
                          static_cast<long long>(group) * call.filters * out_plane;
  const float *const w =
      call.w + (static_cast<long long>(group) * call.filters * call.channels + first_channel) * area +
      down.first * call.kernel + across.first;

  int from[kInputs];                      // where the outputs start that see an input, among those of a buffer
  long long target[kInputs];              // where the input is, or -1 if there is none
  float start_value[kInputs][kChannels];  // (1 - x) / 2, or -x
#pragma unroll
  for (int p = 0; p < kInputs; ++p) {
    const Place place = PlaceOf(tiles, p * call.along + along);
    const int image = start.image + place.image;
    const int row = (start.row + place.row) * call.stride + row_offset;
    const int column = (start.column + place.column) * call.stride + column_offset;
    const bool there = place.image < tiles.images && image < call.batch && row < call.height && column < call.width;
    const int at = (place.image * window.rows + place.row) * window.columns + place.column;
    from[p] = (call.planes * call.taps * pitch + (there ? at : 0)) * kBytes;
    target[p] = there ? (static_cast<long long>(image) * call.groups + group) * call.channels * in_plane +
                        static_cast<long long>(first_channel + lane) * in_plane + row * call.width + column : -1;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      const float x = there && first_channel + lane + c < call.channels ? call.x[target[p] + c * in_plane] : 0.0f;
      start_value[p][c] = norm == 1 ? 0.5f - 0.5f * x : -x;
    }
  }
  for (int c = threadIdx.x; c < wide; c += blockDim.x) broken[c] = 0.0f;
  window.Locate(call.batch, table);
  __syncthreads();

  float sum[kInputs][kChannels] = {}, dy_sum[kInputs] = {};
  const int steps = taps ? (call.filters + call.planes - 1) / call.planes : 0;
  Pipeline(steps, buffers, call.buffer, [&](int step, float *buffer) {
    const int first = step * call.planes, count = min(call.planes, call.filters - first);
    StagePlanes(table, size, dy + static_cast<long long>(first) * out_plane, out_plane, count,
                buffer + call.planes * call.taps * pitch);
    for (int row = threadIdx.x / 32; row < count * taps; row += blockDim.x / 32) {
      const int f = first + row / taps, i = row % taps / across.taps, j = row % taps % across.taps;
      for (int c = threadIdx.x % 32; c < wide; c += 32)
        CopyAsync(buffer + row * pitch + c,
                  w + (f * call.channels + c) * area + (i * call.kernel + j) * call.stride,
                  first_channel + c < call.channels);
    }
  }, [&](int step, const float *buffer) {
    const int count = min(call.planes, call.filters - step * call.planes);
    if (norm == 1)
      for (int i = threadIdx.x; i < count * taps * pitch; i += blockDim.x)
        if (i % pitch < wide && buffer[i] != buffer[i]) broken[i % pitch] = buffer[i];
    const int begin = (buffer - buffers) * kBytes;
    int tap = begin + lane * kBytes;
    for (int f = 0; f < count; ++f)
      for (int i = down.taps - 1; i >= 0; --i) {
        const int last = begin + (f * size + i * window.columns + across.taps - 1) * kBytes;
#pragma unroll 3
        for (int j = 0; j < across.taps; ++j, tap += pitch * kBytes) {
          float weights[kChannels];
          Staged(tap, weights);
#pragma unroll
          for (int p = 0; p < kInputs; ++p) {
            const float value = Staged<float>(from[p] + last - j * kBytes);
            dy_sum[p] += value;
#pragma unroll
            for (int c = 0; c < kChannels; ++c)
              sum[p][c] += value * (norm == 1 ? __saturatef(0.5f * weights[c] + start_value[p][c])
                                              : weights[c] + start_value[p][c]);
          }
        }
      }
  });

  __syncthreads();  // no step may have been there
#pragma unroll
  for (int p = 0; p < kInputs; ++p) {
    if (target[p] < 0) continue;
#pragma unroll
    for (int c = 0; c < kChannels; ++c) {
      if (first_channel + lane + c >= call.channels) continue;
      const float same = start_value[p][c] - start_value[p][c];  // zero, but NaN where x is not finite
      call.out[target[p] + c * in_plane] =
          norm == 1 ? 2.0f * sum[p][c] - dy_sum[p] + (taps ? same + broken[lane + c] : 0.0f) : sum[p][c];
    }
  }
}

}  // namespace

KERNEL(InputGrad1, Call, InputGrad<1, 4, kLanes>)
KERNEL(InputGrad1Single, Call, InputGrad<1, 4, 1>)
KERNEL(InputGrad2, Call, InputGrad<2, 4, kLanes>)
KERNEL(InputGrad2Single, Call, InputGrad<2, 4, 1>)
