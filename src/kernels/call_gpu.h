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
// What the host tells a kernel on the GPU: tensors, sizes, and how the work is cut up, see plan_gpu.h. NVRTC, which has
// no headers of its own, reads it too.
#ifndef ADDERNGD_CALL_GPU_H_
#define ADDERNGD_CALL_GPU_H_

// A kernel of that name, which calls a function with what the host gives.
#ifndef KERNEL
#define KERNEL(name, Type, ...) \
  extern "C" __global__ void __launch_bounds__(kMostThreads, 4) name(const __grid_constant__ Type call) { \
    __VA_ARGS__(call); \
  }
#endif

constexpr int kMostThreads = 128;  // of a block, of which four share a multiprocessor
constexpr int kLanes = 8;          // filters, or channels, that a thread has sums for; 1 where there are few
constexpr int kSignLanes = 4;      // the same for the signs in the filters' gradient
constexpr int kTaps = 9;           // taps that a thread of the filters' gradient has sums for
constexpr int kCombined = 32;      // sums that a block adds up over all shares, by
constexpr int kCombiners = 4;      // threads each

// Positions cut into tiles: a block sees `images` x `rows` x `columns` at once.
struct Tiles {
  int images, rows, columns;
  int down, across, count;  // tiles of an image from top to bottom and from left to right; of all images
};

struct Call {
  const float *x, *w, *dy;                // [N, G * C, H, W], [G * F, C, k, k], [N, G * F, H', W']
  const float *scale, *shift, *shortcut;  // [G * F], [G * F] and as y; null if there are none
  const float *mix;                       // [1]
  float *out;                             // the result
  int batch, groups, channels, height, width;  // of a group
  int filters, kernel, stride, padding, out_height, out_width;
  int relu;
  Tiles tiles;
  int lanes, lane_tiles;  // threads for the filters, or channels, of a block; blocks for all
  int along;              // threads for the positions of a tile, or for the taps of the filters' gradient
  int planes;             // channels or filters that are staged at once
  int window, taps;       // values staged of each: of a tile's window, and at most of the filters
  int pitch, buffer;      // from one row of staged filters or gradients to the next; values of one of two buffers
  // Of the filters' gradient: sums before they are combined, see adder_weight_grad_gpu.cu; blocks that share the tiles,
  // and those that sum dy, for how many filters; blocks for all taps; threads that share a tile's images and rows.
  float *sums, *dy_sums;
  int shares, dy_shares, dy_filters, tap_tiles, slice_images, slice_rows;
};

// Of batch norm. Values of a channel are `images` planes of `size`; `shares` blocks have them.
struct NormCall {
  const float *x, *dy, *gamma, *beta, *moving_mean, *moving_variance;
  const float *options;                  // momentum and epsilon
  const float *shortcut, *mean, *inverse, *y;
  float *out, *dz;                       // y or dx; the gradient before ReLU, if it is wanted
  float *new_mean, *new_variance, *batch_mean, *batch_inverse, *dgamma, *dbeta;
  float *sums;                           // [channel, share, 2]
  int images, channels, size, shares, relu;
};

#endif  // ADDERNGD_CALL_GPU_H_
