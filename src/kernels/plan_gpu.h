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
// How the work of a pass is cut up on a GPU: by shapes alone, so that every GPU gives the same bits.
#ifndef ADDERNGD_PLAN_GPU_H_
#define ADDERNGD_PLAN_GPU_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>

#include "call_gpu.h"
#include "layer.h"

constexpr int64_t kShared = 48 << 10;      // bytes of shared memory for which four blocks fit a multiprocessor
constexpr int64_t kMostShared = 96 << 10;  // and at most, where windows are large
constexpr int64_t kEnoughBlocks = 4 * 132; // of an H100's or H200's 132 multiprocessors
constexpr int64_t kShareBlocks = 3 * 132;  // fewer where each leaves sums to combine
constexpr int64_t kMostLanes = 64;         // filters or channels of a block; fewer where windows are large
constexpr int64_t kFewLanes = 2;           // up to which a thread has one
constexpr int64_t kFewPositions = 4;       // that a thread has, of outputs or inputs
constexpr int64_t kManyPositions = 8;      // where there are enough blocks

// One kernel's launch.
struct Plan {
  Call call = {};
  int64_t blocks = 0, threads = 0, shared = 0;  // shared: bytes
  int64_t each = 0, positions = 0;              // lanes and positions of a thread
};

namespace plan {

inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t RoundUp(int64_t n, int64_t multiple) { return CeilDiv(n, multiple) * multiple; }

// The size of the parts that n is cut into, all alike and of at most `most`.
inline int64_t Even(int64_t n, int64_t most) {
  return n > 0 ? CeilDiv(n, CeilDiv(n, std::max<int64_t>(1, most))) : 1;
}

// A size that can be shared out evenly among `parts`, or in ones.
inline int64_t Divisible(int64_t size, int64_t parts) {
  return size > parts && parts > 0 ? size / parts * parts : size;
}

inline int Int(int64_t value) {
  if (value > std::numeric_limits<int>::max()) throw std::length_error("a layer is too large for the GPU kernel");
  return static_cast<int>(value);
}

inline Tiles TilesOf(int64_t batch, int64_t rows, int64_t columns, int64_t positions, int64_t slices = 1) {
  const int64_t width = Even(columns, positions);
  const int64_t height = Divisible(Even(rows, positions / width), slices);
  const bool whole = width >= columns && height >= rows;
  const int64_t images = whole ? Divisible(Even(batch, positions / (width * height)), slices / height) : 1;
  const int64_t down = CeilDiv(rows, height), across = CeilDiv(columns, width);
  return {Int(images), Int(height), Int(width), Int(down), Int(across), Int(CeilDiv(batch, images) * down * across)};
}

inline Call CallOf(const Layer &layer) {
  Call call = {};
  call.batch = Int(layer.batch), call.groups = Int(layer.groups), call.channels = Int(layer.channels);
  call.height = Int(layer.height), call.width = Int(layer.width), call.filters = Int(layer.filters);
  call.kernel = Int(layer.kernel), call.stride = Int(layer.stride), call.padding = Int(layer.padding);
  call.out_height = Int(layer.out_height), call.out_width = Int(layer.out_width);
  Int(layer.groups * layer.filters * layer.taps);  // what kernels count in int
  return call;
}

// Kernels count in int from a tile's first image to its last.
inline void CheckSpan(const Call &call) {
  const int64_t in = int64_t{call.channels} * call.height * call.width;
  const int64_t out = int64_t{call.filters} * call.out_height * call.out_width;
  Int(std::max(in, out) * call.groups * call.tiles.images);
}

// From one row of staged filters or gradients to the next: whole vectors of four, and no two rows in the same banks.
inline int64_t PitchOf(int64_t lanes) { return lanes < 4 ? lanes : RoundUp(lanes, 4) + 4; }

// Sets the threads of a block for `count` filters or channels, at most `most`, in wholes of `each`; returns how many
// threads are left for each of them.
inline int64_t TakeLanes(Plan *plan, int64_t count, int64_t each, int64_t most) {
  plan->each = count <= kFewLanes ? 1 : each;
  const int64_t threads = CeilDiv(count, plan->each), part = Even(threads, most / plan->each);
  const int64_t lanes = part > 4 ? RoundUp(part, 2) : part;  // so that there are whole warps
  plan->call.lanes = Int(lanes);
  plan->call.lane_tiles = Int(CeilDiv(threads, lanes));
  plan->call.pitch = Int(PitchOf(lanes * plan->each));
  return kMostThreads / lanes;
}

// The largest tiles, of at most `positions`, for which bytes(tiles) of shared memory do; else those of one position.
template <typename TilesFor, typename Bytes>
inline Tiles LargestTiles(int64_t positions, TilesFor tiles_for, Bytes bytes) {
  for (const int64_t limit : {kShared, kMostShared})
    for (int64_t n = positions; n > 0; n /= 2)
      if (const Tiles tiles = tiles_for(n); bytes(tiles) <= limit) return tiles;
  return tiles_for(1);
}

// The first that fits of the plans make(most), of blocks of at most `most` filters or channels.
template <typename Make>
inline Plan Fitting(Make make) {
  for (int64_t most = kMostLanes; most >= kLanes; most /= 2)
    if (const Plan plan = make(most); plan.shared <= kMostShared) return plan;
  throw std::length_error("windows of this size are too large for the GPU kernel; backend composed takes them");
}

// Completes a plan of the forward pass, or of the input's gradient: rows x columns positions of each image and phase,
// which step over a staged plane by `step` and see taps x taps of it, of `depth` planes in all.
inline Plan WithTiles(Plan plan, int64_t rows, int64_t columns, int64_t step, int64_t taps, int64_t depth,
                      int64_t phases) {
  Call &call = plan.call;
  const int64_t wide = call.lanes * plan.each, filters = taps * taps * call.pitch;
  const auto window = [&](const Tiles &tiles) {
    return tiles.images * ((tiles.rows - 1) * step + taps) * ((tiles.columns - 1) * step + taps);
  };
  const auto buffer = [&](const Tiles &tiles, int64_t planes) { return RoundUp(planes * (window(tiles) + filters), 4); };
  const auto bytes = [&](const Tiles &tiles, int64_t planes) {
    return 4 * (2 * buffer(tiles, planes) + window(tiles) + wide);
  };
  call.tiles = LargestTiles(plan.positions * call.along,
                            [&](int64_t n) { return TilesOf(call.batch, rows, columns, n); },
                            [&](const Tiles &tiles) { return bytes(tiles, 1); });
  CheckSpan(call);
  call.window = Int(window(call.tiles));
  call.taps = Int(taps * taps);
  int64_t planes = 1;
  while (planes < depth && bytes(call.tiles, planes + 1) <= kShared) ++planes;
  call.planes = Int(Even(depth, planes));
  call.buffer = Int(buffer(call.tiles, call.planes));
  plan.shared = bytes(call.tiles, call.planes);
  plan.threads = call.lanes * call.along;
  plan.blocks = call.tiles.count * static_cast<int64_t>(call.lane_tiles) * call.groups * phases;
  return plan;
}

inline int64_t Along(int64_t threads) { return std::max<int64_t>(16, threads / 16 * 16); }

inline Plan Forward(const Layer &layer, int64_t most) {
  Plan plan = {CallOf(layer)};
  plan.call.along = Int(Along(TakeLanes(&plan, layer.filters, kLanes, most)));
  const auto with = [&](int64_t positions) {
    plan.positions = positions;
    return WithTiles(plan, layer.out_height, layer.out_width, layer.stride, layer.kernel, layer.channels, 1);
  };
  const Plan large = with(kManyPositions);
  return plan.each > 1 && large.blocks >= kEnoughBlocks ? large : with(kFewPositions);
}

// Inputs are of stride^2 phases, each of which some taps of a window see; among the outputs they step by one.
inline Plan InputGrad(const Layer &layer, int64_t most) {
  Plan plan = {CallOf(layer)};
  plan.call.along = Int(Along(TakeLanes(&plan, layer.channels, kLanes, most)));
  plan.positions = kFewPositions;
  return WithTiles(plan, CeilDiv(layer.height, layer.stride), CeilDiv(layer.width, layer.stride), 1,
                   CeilDiv(layer.kernel, layer.stride), layer.filters, layer.stride * layer.stride);
}

// A thread has `each` filters and kTaps taps; where that takes few threads, others share the positions of a tile.
inline Plan WeightGrad(const Layer &layer, int64_t each, int64_t most) {
  Plan plan = {CallOf(layer)};
  Call &call = plan.call;
  const int64_t left = TakeLanes(&plan, layer.filters, each, most), threads = CeilDiv(layer.taps, kTaps);
  call.along = Int(Even(threads, left));
  call.tap_tiles = Int(CeilDiv(threads, call.along));
  const int64_t matrix = call.lanes * call.along, slices = kMostThreads / matrix;
  const int64_t taps = call.along * kTaps, area = layer.kernel * layer.kernel;
  call.planes = Int(std::min(layer.channels, taps % area ? (taps + area - 2) / area + 1 : taps / area));
  const auto positions = [](const Tiles &tiles) { return int64_t{tiles.images} * tiles.rows * tiles.columns; };
  const auto window = [&](const Tiles &tiles) {
    return tiles.images * ((tiles.rows - 1) * layer.stride + layer.kernel) *
           ((tiles.columns - 1) * layer.stride + layer.kernel);
  };
  const int64_t combining = 4 * plan.each * kTaps * matrix * (slices / 2);
  const auto buffer = [&](const Tiles &tiles) {
    return RoundUp(positions(tiles) * call.pitch + call.planes * window(tiles), 4);
  };
  const auto bytes = [&](const Tiles &tiles) {
    return std::max({combining, int64_t{4 * kMostThreads}, 4 * (2 * buffer(tiles) + positions(tiles) + window(tiles))});
  };
  call.tiles = LargestTiles(std::max<int64_t>(kMostThreads, slices * layer.out_width), [&](int64_t n) {
    return TilesOf(layer.batch, layer.out_height, layer.out_width, n, slices);
  }, bytes);
  CheckSpan(call);
  call.buffer = Int(buffer(call.tiles));
  call.slice_rows = Int(std::min<int64_t>(slices, call.tiles.rows));
  call.slice_images = Int(std::min<int64_t>(slices / call.slice_rows, call.tiles.images));
  const int64_t blocks = layer.groups * call.lane_tiles * call.tap_tiles;
  call.shares = Int(std::max<int64_t>(1, std::min<int64_t>(call.tiles.count, kShareBlocks / blocks)));
  call.dy_shares = call.shares;
  call.dy_filters = Int(call.lane_tiles * call.lanes * plan.each);
  plan.shared = bytes(call.tiles);
  plan.threads = RoundUp(matrix * slices, 32);  // whole warps, of which some may only stage
  plan.blocks = blocks * call.shares;
  return plan;
}

}  // namespace plan

inline Plan ForwardPlan(const Layer &layer) {
  return plan::Fitting([&](int64_t most) { return plan::Forward(layer, most); });
}
inline Plan InputGradPlan(const Layer &layer) {
  return plan::Fitting([&](int64_t most) { return plan::InputGrad(layer, most); });
}
inline Plan WeightGradPlan(const Layer &layer, int64_t each) {
  return plan::Fitting([&](int64_t most) { return plan::WeightGrad(layer, each, most); });
}

// Sums that the blocks of such a plan leave, and blocks that combine them.
inline int64_t SumsOf(const Plan &plan) {
  return plan.blocks * plan.each * kTaps * plan.call.lanes * plan.call.along;
}
inline int64_t CombinersOf(const Plan &plan) { return plan::CeilDiv(SumsOf(plan) / plan.call.shares, kCombined); }

#endif  // ADDERNGD_PLAN_GPU_H_
