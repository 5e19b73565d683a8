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
// The forward pass of one group of an adder layer on CPU, with all that stands behind it, in whatever numbers.
//
// A tile, some whole rows of the output of an image, reads a band of inputs, see packing.h, whose values are words of
// 32 bits: a float, or several smaller numbers. `Numbers` says how they are packed and added up:
//
//     Numbers(layer, w)                 of a group; `w` is its own
//     layer                             the same layer, whose channels are words
//     using Sum, kSums                  a vector of sums; how many belong to a vector of filters
//     Image Of(x)                       what an image is computed with: `filters`, words [vector of filters, tap, lane];
//                                       `filter_sums`, [vector of filters, kSums, lane], of each alone; `unit`, what a
//                                       sum is worth. Thread-safe; x is the image's first channel of the group
//     Pack(image, x, word, band, out)   a word of all positions of a band of an image
//     Add(sum, words)                   what a word adds to the sum over x alone
//     Loop(norm)                        the inner loop, see `Block`
#ifndef ADDERNGD_FORWARD_H_
#define ADDERNGD_FORWARD_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "abi.h"
#include "depthwise.h"
#include "epilogue.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"
#include "threads.h"

constexpr int kRuns = kRegisters == 32 ? 4 : 2;  // a register block: runs of positions x a vector of filters
static_assert(kRuns * kRun % kLanes == 0, "transposed in squares");

// To out[f][u] the sums of a vector of filters f and kRuns runs of positions u, of the words x[runs + offset_k + u] and
// w[k][f], less sum_x[u] and sum_w[f], those of x and w alone; out's rows are `pitch` floats apart.
using Block = void(int64_t taps, const float *x, const int64_t *runs, const int64_t *offsets, const float *w,
                   const float *sum_x, const float *sum_w, float *out, int64_t pitch);

// A register block of sums [position][filter], transposed, to where the first of them belongs.
inline void StoreBlock(Vec *sum, float *out, int64_t pitch) {
  UNROLL
  for (int u = 0; u < kRuns * kRun; u += kLanes) {
    Transpose(sum + u);
    UNROLL
    for (int f = 0; f < kLanes; ++f) Store(out + f * pitch + u, sum[u + f]);
  }
}

// Tiles of whole rows of the output, and where their inputs lie.
struct Plan {
  const Layer &layer;
  int64_t columns;                    // of the output, in whole runs
  int64_t band = 0;                   // rows of the output in a tile
  int64_t pitch = 0;                  // from channel to channel of its inputs
  std::vector<int64_t> offsets = {};  // where each tap starts among them
  std::vector<int64_t> runs = {};     // and each run of outputs, in whole register blocks

  // What `rows` rows of the output from `row` on read.
  Band Inputs(int64_t row, int64_t rows) const { return InputsOf(layer, row, rows, columns); }
};

inline Plan PlanOf(const Layer &layer) {
  Plan plan{layer, RoundUp(layer.out_width, kRun)};
  plan.band = BandRows(layer, layer.out_height,
                       [&](int64_t rows) { return layer.channels * plan.Inputs(0, rows).Pitch(); });
  // No less than a register block.
  plan.band = std::max(plan.band, std::min(layer.out_height, kRuns * kRun / std::max<int64_t>(1, plan.columns)));
  const Band inputs = plan.Inputs(0, plan.band);
  plan.pitch = inputs.Pitch();
  for (int64_t c = 0; c < layer.channels; ++c)
    for (int64_t i = 0; i < layer.kernel; ++i)
      for (int64_t j = 0; j < layer.kernel; ++j) plan.offsets.push_back(c * plan.pitch + inputs.At(i, j));
  for (int64_t row = 0; row < plan.band; ++row)
    for (int64_t q = 0; q < plan.columns; q += kRun) plan.runs.push_back(inputs.At(row * layer.stride, 0) + q);
  plan.runs.resize(RoundUp(plan.runs.size(), kRuns), 0);
  return plan;
}

template <typename Numbers>
class Forward {
 public:
  using Image = typename Numbers::Image;

  Forward(const Layer &layer, int64_t group, const float *w)
      : numbers_(layer, w + layer.InW(group)), layer_(numbers_.layer), group_(group), in_x_(layer.InX(group)),
        image_(layer.AllChannels() * layer.height * layer.width), plan_(PlanOf(layer_)) {}

  int64_t Tiles() const { return CeilDiv(layer_.out_height, plan_.band); }  // of an image
  Image Of(const float *x) { return numbers_.Of(x); }

  // All images.
  void Run(const float *x, const Epilogue &epilogue, float *y) {
    Once<Image> images(layer_.batch);
    Threads::ForEach(layer_.threads, layer_.batch * Tiles(), [&](int64_t item) {
      const int64_t n = item / Tiles();
      const float *of_n = x + n * image_ + in_x_;
      RunTile(images.Get(n, [&] { return Of(of_n); }), of_n, n, item % Tiles(), epilogue, y);
    });
  }

  // A tile of image n, to where it belongs in all of y.
  void RunTile(const Image &image, const float *x, int64_t n, int64_t tile, const Epilogue &epilogue, float *y) const {
    const int64_t row = tile * plan_.band, rows = std::min(plan_.band, layer_.out_height - row);
    const int64_t out_pitch = plan_.runs.size() * kRun, first_filter = group_ * layer_.filters;
    const Band inputs = plan_.Inputs(row, rows);
    float *xs = scratch_x.Get(layer_.channels * plan_.pitch), *sums = scratch_out.Get(kLanes * out_pitch + kLanes);
    float *word_sums = scratch_sum.Get(plan_.pitch + out_pitch + kLanes), *sums_x = word_sums + plan_.pitch;
    for (int64_t c = 0; c < layer_.channels; ++c) numbers_.Pack(image, x, c, inputs, xs + c * plan_.pitch);
    SumWindows(xs, inputs, rows, word_sums, sums_x);
    Block *const block = Numbers::Loop(layer_.norm);
    for (int64_t f = 0; f < layer_.filters; f += kLanes) {
      for (int64_t run = 0; run * kRun < rows * plan_.columns; run += kRuns)
        block(layer_.taps, xs, &plan_.runs[run], plan_.offsets.data(), image.filters + f * layer_.taps,
              sums_x + run * kRun, image.filter_sums + f * Numbers::kSums, sums + run * kRun, out_pitch);
      for (int64_t i = 0; i < std::min<int64_t>(kLanes, layer_.filters - f); ++i)
        Finish(sums + i * out_pitch, image.unit, rows, n, first_filter + f + i, row, epilogue, y);
    }
  }

 private:
  using Sum = typename Numbers::Sum;
  Numbers numbers_;
  const Layer &layer_;
  const int64_t group_, in_x_, image_;  // where the group's channels start, and the next image, in x
  const Plan plan_;

  // The sum over each window of x alone, as the outputs lie, by way of the sums over channels.
  void SumWindows(const float *xs, const Band &inputs, int64_t rows, float *word_sums, float *out) const {
    for (int64_t i = 0; i < inputs.rows * inputs.RowPitch(); i += kLanes) {
      Sum lanes = {};
      for (int64_t c = 0; c < layer_.channels; ++c) lanes = numbers_.Add(lanes, xs + c * plan_.pitch + i);
      StoreAs(word_sums + i, lanes);
    }
    const int64_t window = std::min(layer_.kernel * layer_.kernel, layer_.taps);  // no channels have no taps
    const int64_t next_row = layer_.stride * inputs.RowPitch();
    for (int64_t row = 0; row < rows; ++row, out += plan_.columns, word_sums += next_row)
      for (int64_t q = 0; q < plan_.columns; q += kLanes) {
        Sum lanes = {};
        for (int64_t k = 0; k < window; ++k) lanes += LoadAs<Sum>(word_sums + plan_.offsets[k] + q);
        StoreAs(out + q, lanes);
      }
  }

  // `rows` rows of filter f, of all, of image n, from `row` on.
  void Finish(const float *sums, float unit, int64_t rows, int64_t n, int64_t f, int64_t row, const Epilogue &epilogue,
              float *y) const {
    const int64_t width = layer_.out_width, at = ((n * layer_.AllFilters() + f) * layer_.out_height + row) * width;
    if (plan_.columns == width) return epilogue.Apply(sums, unit, rows * width, f, at, y);
    for (int64_t i = 0; i < rows; ++i) epilogue.Apply(sums + i * plan_.columns, unit, width, f, at + i * width, y);
  }
};

// All groups. A depthwise layer, which memory limits and not arithmetic, is computed in floats.
template <typename Numbers>
void RunLayer(const Layer &layer, const float *x, const float *w, const Epilogue &epilogue, float *y) {
  if (layer.Depthwise()) return DepthwiseForward(layer, x, w, epilogue, y);
  ForEachGroup(layer, [&](int64_t group) { Forward<Numbers>(layer, group, w).Run(x, epilogue, y); });
}

// Inputs x [N, C, H, W], w [F, C, k, k], geometry [stride, padding + 1, norm]; output y [N, F, H', W']. Tensors are
// float32; of `geometry`, and of groups, see layer.h.
template <typename Numbers>
int RunForward(Arguments arguments) {
  return Guarded(arguments, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), geometry = arguments.Next(), y = arguments.Next();
    RunLayer<Numbers>(LayerOf(x, w, geometry), x.Data(), w.Data(), Epilogue(), y.Data());
  });
}

// The same with all that follows a layer: behind w come scale [F], shift [F] and maybe a shortcut as y, the geometry has
// relu + 1 at its end, and the output is scale * response + shift + shortcut, then ReLU where it is wanted.
template <typename Numbers>
int RunFolded(Arguments arguments) {
  return Guarded(arguments, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), scale = arguments.Next(), shift = arguments.Next();
    const Tensor shortcut = arguments.NextBefore(2), geometry = arguments.Next(), y = arguments.Next();
    Epilogue epilogue = {scale.Data(), shift.Data(), shortcut.Data()};
    if (geometry.shape[3] > 1) epilogue.floor = 0.0f;
    RunLayer<Numbers>(LayerOf(x, w, geometry), x.Data(), w.Data(), epilogue, y.Data());
  });
}

#endif  // ADDERNGD_FORWARD_H_
