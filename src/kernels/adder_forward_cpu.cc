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
// Forward pass of an adder layer on CPU, with all that stands behind it in an evaluation. Norm 1: y = -sum |x - w|
// (arXiv 1912.13200, eq. 2); norm 2: y = -1/2 sum (x - w)^2 (arXiv 2212.11803).
//
// sum |x - w| = 2 * (sum max(x, w) - sum x / 2 - sum w / 2): a maximum and a multiply-add, by one, issue side by side,
// and so a pair (x, w) costs what a pair of a convolution costs. The two other sums are one per position and one per
// filter; they are what the accumulators start from, so that no two large sums cancel at the end. Likewise
// -sum (x - w)^2 / 2 = sum x * w - sum x^2 / 2 - sum w^2 / 2. x and w are centred before, by a constant per channel,
// which changes no difference and keeps the accuracy where both lie far from zero.
//
// See packing.h for the register block and the layouts. Tiles of an image are shared out among threads; no result
// depends on how many there are, or on the tiles.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "abi.h"
#include "depthwise.h"
#include "epilogue.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"

namespace {

constexpr int kRuns = kRegisters == 32 ? 4 : 2;  // a register block: runs of positions x a vector of filters
static_assert(kRuns * kRun % kLanes == 0, "transposed in squares");

// out[f][u] = sum_k max(x[runs + offset_k + u], w[k][f]) - half_x[u] - half_w[f] = sum_k |x - w| / 2, or the sum of
// products, = -sum_k (x - w)^2 / 2, for a vector of filters f and kRuns runs of positions u; out's rows are `pitch`
// floats apart.
template <int norm>
NO_INLINE void ForwardBlock(int64_t taps, const float *x, const int64_t *runs, const int64_t *offsets, const float *w,
                            const float *half_x, const float *half_w, float *out, int64_t pitch) {
  const Vec one = One(), half = Load(half_w);
  const float *xs[kRuns];
  UNROLL
  for (int r = 0; r < kRuns; ++r) xs[r] = x + runs[r];
  Vec sum[kRuns * kRun];
  UNROLL
  for (int u = 0; u < kRuns * kRun; ++u) sum[u] = -half - half_x[u];
  for (int64_t k = 0; k < taps; ++k, w += kLanes) {
    const Vec ws = InRegister(Load(w));
    UNROLL
    for (int u = 0; u < kRuns * kRun; ++u) {
      const float *value = xs[u / kRun] + offsets[k] + u % kRun;
      sum[u] = norm == 1 ? AddMax(sum[u], ws, value, one) : AddProduct(sum[u], ws, value);
    }
  }
  UNROLL
  for (int u = 0; u < kRuns * kRun; u += kLanes) {
    Transpose(sum + u);
    UNROLL
    for (int f = 0; f < kLanes; ++f) Store(out + f * pitch + u, sum[u + f]);
  }
}

// What the sums over x alone, and over w alone, are of.
template <typename T>
inline T Power(T v, int64_t norm) { return norm == 1 ? v : v * v; }

// The filters, [vector of filters, tap, lane], centred, with half the sum of each, or of its squares.
struct Filters {
  std::vector<float> values, half_sums;

  Filters(const Layer &layer, const float *w, const std::vector<float> &centres)
      : values(RoundUp(layer.filters, kLanes) * layer.taps + kLanes * kLanes),
        half_sums(RoundUp(layer.filters, kLanes)) {
    for (int64_t f = 0; f < layer.filters; f += kLanes) {
      float *tap = &values[f * layer.taps];
      ToLanes(w + f * layer.taps, layer.taps, layer.filters - f, layer.taps, kZeros, tap, kLanes);
      double sums[kLanes] = {};
      for (const float centre : centres)
        for (int64_t k = 0; k < layer.kernel * layer.kernel; ++k, tap += kLanes)
          for (int i = 0; i < kLanes; ++i) sums[i] += Power(tap[i] -= centre, layer.norm);
      for (int i = 0; i < kLanes; ++i) half_sums[f + i] = static_cast<float>(sums[i] / 2);
    }
  }
};

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

Plan PlanOf(const Layer &layer) {
  Plan plan{layer, RoundUp(layer.out_width, kRun)};
  plan.band = BandRows(layer, layer.out_height,
                       [&](int64_t rows) { return layer.channels * plan.Inputs(0, rows).Pitch(); });
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

// Of one group of a layer.
class Forward {
 public:
  Forward(const Layer &layer, int64_t group, const float *x, const float *w, const Epilogue &epilogue)
      : layer_(layer), epilogue_(epilogue), first_filter_(group * layer.filters), x_(x + layer.InX(group)),
        centres_(Centres(layer, w + layer.InW(group))), filters_(layer, w + layer.InW(group), centres_),
        plan_(PlanOf(layer)) {}

  void Run(float *y) const {
    ForEachBand(layer_, layer_.out_height, plan_.band, [&](int64_t n, int64_t row) { RunTile(n, row, y); });
  }

 private:
  const Layer &layer_;
  const Epilogue &epilogue_;
  const int64_t first_filter_;
  const float *const x_;
  const std::vector<float> centres_;
  const Filters filters_;
  const Plan plan_;

  void RunTile(int64_t n, int64_t row, float *y) const {
    const int64_t rows = std::min(plan_.band, layer_.out_height - row), plane = layer_.height * layer_.width;
    const int64_t out_pitch = plan_.runs.size() * kRun;
    const Band inputs = plan_.Inputs(row, rows);
    float *xs = scratch_x.Get(layer_.channels * plan_.pitch), *sums = scratch_out.Get(kLanes * out_pitch);
    float *channel_sums = scratch_sum.Get(plan_.pitch + out_pitch + kLanes), *half_x = channel_sums + plan_.pitch;
    for (int64_t c = 0; c < layer_.channels; ++c)
      inputs.Pack(x_ + (n * layer_.AllChannels() + c) * plane, layer_.height, layer_.width, centres_[c], -centres_[c],
                  xs + c * plan_.pitch);
    HalfSums(xs, inputs, rows, channel_sums, half_x);
    const auto block = layer_.norm == 1 ? ForwardBlock<1> : ForwardBlock<2>;
    for (int64_t f = 0; f < layer_.filters; f += kLanes) {
      for (int64_t run = 0; run * kRun < rows * plan_.columns; run += kRuns)
        block(layer_.taps, xs, &plan_.runs[run], plan_.offsets.data(), &filters_.values[f * layer_.taps],
              half_x + run * kRun, &filters_.half_sums[f], sums + run * kRun, out_pitch);
      for (int64_t i = 0; i < std::min<int64_t>(kLanes, layer_.filters - f); ++i)
        Finish(sums + i * out_pitch, rows, n, first_filter_ + f + i, row, y);
    }
  }

  // Half the sum over each window of x alone, or of its squares, as the outputs lie, by way of the sums over channels.
  void HalfSums(const float *xs, const Band &inputs, int64_t rows, float *channel_sums, float *out) const {
    for (int64_t i = 0; i < inputs.rows * inputs.RowPitch(); i += kLanes) {
      Vec lanes = {};
      for (int64_t c = 0; c < layer_.channels; ++c) lanes += Power(Load(xs + c * plan_.pitch + i), layer_.norm);
      Store(channel_sums + i, lanes);
    }
    for (int64_t row = 0; row < rows; ++row, out += plan_.columns)
      for (int64_t q = 0; q < plan_.columns; q += kLanes) {
        Vec lanes = {};
        for (int64_t i = 0; i < layer_.kernel; ++i)
          for (int64_t j = 0; j < layer_.kernel; ++j)
            lanes += Load(channel_sums + inputs.At(row * layer_.stride + i, j) + q);
        Store(out + q, lanes * 0.5f);
      }
  }

  // `rows` rows of filter f, of all, of image n, from `row` on.
  void Finish(const float *sums, int64_t rows, int64_t n, int64_t f, int64_t row, float *y) const {
    const int64_t width = layer_.out_width, at = ((n * layer_.AllFilters() + f) * layer_.out_height + row) * width;
    const float unit = layer_.norm == 1 ? -2.0f : 1.0f;
    if (plan_.columns == width) return epilogue_.Apply(sums, unit, rows * width, f, at, y);
    for (int64_t i = 0; i < rows; ++i) epilogue_.Apply(sums + i * plan_.columns, unit, width, f, at + i * width, y);
  }
};

void RunForward(const Layer &layer, const float *x, const float *w, const Epilogue &epilogue, float *y) {
  if (layer.Depthwise()) return DepthwiseForward(layer, x, w, epilogue, y);
  ForEachGroup(layer, [&](int64_t group) { Forward(layer, group, x, w, epilogue).Run(y); });
}

}  // namespace

// Tensors are float32; of `geometry`, and of groups, see layer.h.
extern "C" {

// Inputs x [N, C, H, W], w [F, C, k, k], geometry [stride, padding + 1, norm]; output y [N, F, H', W'].
int AdderForward(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), geometry = arguments.Next(), y = arguments.Next();
    RunForward(LayerOf(x, w, geometry), x.Data(), w.Data(), Epilogue(), y.Data());
  });
}

// Inputs x, w, scale [F], shift [F], maybe a shortcut as y, geometry [stride, padding + 1, norm, relu + 1]; output
// scale * AdderForward + shift + shortcut, then ReLU where it is wanted: the layer with all that follows it.
int AdderFolded(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), scale = arguments.Next(), shift = arguments.Next();
    const Tensor shortcut = arguments.NextBefore(2), geometry = arguments.Next(), y = arguments.Next();
    Epilogue epilogue{scale.Data(), shift.Data(), shortcut.Data()};
    if (geometry.shape[3] > 1) epilogue.floor = 0.0f;
    RunForward(LayerOf(x, w, geometry), x.Data(), w.Data(), epilogue, y.Data());
  });
}

}  // extern "C"
