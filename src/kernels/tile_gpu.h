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
// How the passes of an adder layer run on a GPU; what they compute stands in `src.kernels.operation`.
//
// All are made alike. A block has a tile of positions: outputs for the forward pass and the filters' gradient, inputs
// for the input's gradient. What these see of some planes at a time is staged in shared memory, zeros around the image
// included, while the planes before are computed with. A thread keeps a small matrix of sums in registers, positions x
// filters say, and walks over planes and taps: for each it reads a value for every row and every column of its matrix,
// and does one or two instructions for every sum. The walk is the same for all threads, so that its offsets cost next
// to nothing; what differs is where a thread starts.
//
// Nothing depends on the order in which blocks run: the same bits come out each time.
#ifndef ADDERNGD_TILE_GPU_H_
#define ADDERNGD_TILE_GPU_H_

#include "call_gpu.h"

extern __shared__ float4 memory[];

constexpr int kBytes = sizeof(float);

// Copies a value to shared memory, or zero if it is not there, without waiting.
__device__ inline void CopyAsync(float *to, const float *from, bool there) {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
                   static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from), "r"(there ? 4 : 0) : "memory");
#else
  *to = there ? *from : 0.0f;
#endif
}

// What was copied since the last call is a batch of its own.
__device__ inline void EndBatch() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits for all batches but the last.
__device__ inline void WaitForBatch() {
#ifdef __CUDA_ARCH__
  asm volatile("cp.async.wait_group 1;" ::: "memory");
#endif
}

// Calls stage(step, buffer) and compute(step, buffer) for each step, with two buffers: one is filled while the other is
// computed with.
template <typename Stage, typename Compute>
__device__ inline void Pipeline(int steps, float *buffers, int size, Stage stage, Compute compute) {
  if (steps > 0) stage(0, buffers);
  EndBatch();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) stage(step + 1, buffers + (step + 1) % 2 * size);
    EndBatch();
    WaitForBatch();
    __syncthreads();
    compute(step, buffers + step % 2 * size);
    __syncthreads();
  }
}

struct Place {
  int image, row, column;
};

// Where a tile starts.
__device__ inline Place StartOf(const Tiles &tiles, int tile) {
  return {tile / (tiles.down * tiles.across) * tiles.images, tile / tiles.across % tiles.down * tiles.rows,
          tile % tiles.across * tiles.columns};
}

// Where a tile's position is in it.
__device__ inline Place PlaceOf(const Tiles &tiles, int position) {
  return {position / (tiles.rows * tiles.columns), position / tiles.columns % tiles.rows, position % tiles.columns};
}

// What a tile sees of a plane: from `start` on, of a tensor whose images are `image_step` apart.
struct Window {
  Place start;
  int images, rows, columns;
  int image_step, height, width, pitch;  // of which those outside height x width count as zeros

  __device__ int Size() const { return images * rows * columns; }

  // Writes where each value is, counted from the plane of the first image, or -1 where none is.
  __device__ void Locate(int batch, int *table) const {
    for (int i = threadIdx.x; i < Size(); i += blockDim.x) {
      const int image = i / (rows * columns);
      const int row = start.row + i / columns % rows, column = start.column + i % columns;
      const bool there = start.image + image < batch && row >= 0 && row < height && column >= 0 && column < width;
      table[i] = there ? image * image_step + row * pitch + column : -1;
    }
  }
};

// Stages `count` planes, each of them `size` values.
__device__ inline void StagePlanes(const int *table, int size, const float *planes, int step, int count, float *to) {
  for (int i = threadIdx.x; i < size; i += blockDim.x) {
    const int at = table[i];
    for (int plane = 0; plane < count; ++plane)
      CopyAsync(to + plane * size + i, planes + plane * step + at, at >= 0);
  }
}

// Reads what is staged `at` bytes behind the start: bytes, since one addition is then all that an address takes.
template <typename T>
__device__ inline T Staged(int at) {
  return *reinterpret_cast<const T *>(reinterpret_cast<const char *>(memory) + at);
}

// Reads `count` values, where whole vectors start if there are several.
template <int count>
__device__ inline void Staged(int at, float (&to)[count]) {
  if constexpr (count == 1) {
    to[0] = Staged<float>(at);
  } else {
#pragma unroll
    for (int i = 0; i < count; i += 4) {
      const float4 four = Staged<float4>(at + i * kBytes);
      to[i] = four.x, to[i + 1] = four.y, to[i + 2] = four.z, to[i + 3] = four.w;
    }
  }
}

#endif  // ADDERNGD_TILE_GPU_H_
