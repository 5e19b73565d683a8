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
// Gradient of an adder layer's input on CPU: dx = sum dy * clip(w - x, -1, 1) in norm 1, AdderNet's choice (arXiv
// 1912.13200, eq. 6), and sum dy * (w - x), the true one, in norm 2.
//
// Each input is seen by the taps of one phase, which is given by its row and column modulo the stride. A register block
// is a vector of channels for some inputs of a phase, where dy is read value by value; see packing.h. Tiles of an image
// are shared out among threads; no result depends on how many there are, or on the tiles.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "abi.h"
#include "depthwise.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"

namespace {

constexpr int kInputRuns = kRegisters == 32 ? 2 : 1;  // a register block: runs of inputs x a vector of channels

// dx[u][c] = -sum_k dy[offset_k + u] * d, d = x[u][c] - w[k][c], which norm 1 clips to -1 .. 1, for a vector of
// channels c and kInputRuns runs of inputs u, which are `step` floats apart in x and dx, both counted from at[run]; k
// runs over filters and taps of one phase. Behind the last w lies what of them is NaN: clipping might hide it.
template <int norm>
NO_INLINE void InputGradBlock(int64_t taps, const float *const *dy, const int64_t *offsets, const float *w,
                              const float *x, const int64_t *at, int64_t step, float *dx) {
  constexpr int kInputs = kInputRuns * kRun;
  const Vec one = One();
  const float *dys[kInputRuns];
  UNROLL
  for (int r = 0; r < kInputRuns; ++r) dys[r] = dy[r];
  Vec sum[kInputs], xs[kInputs];
  UNROLL
  for (int u = 0; u < kInputs; ++u) {
    xs[u] = Load(x + at[u / kRun] + u % kRun * step);
    sum[u] = xs[u] - xs[u];  // zero, but NaN where x is not finite, which clipping might hide
  }
  for (int64_t k = 0; k < taps; ++k, w += kLanes) {
    const Vec ws = InRegister(Load(w));
    UNROLL
    for (int u = 0; u < kInputs; ++u) {
      const Vec d = u % 2 ? Difference<true>(xs[u], ws, one) : Difference<false>(xs[u], ws, one);
      sum[u] = AddProduct(sum[u], norm == 1 ? Clip(d, one) : d, dys[u / kRun] + offsets[k] + u % kRun);
    }
  }
  UNROLL
  for (int u = 0; u < kInputs; ++u) Store(dx + at[u / kRun] + u % kRun * step, -(sum[u] + Load(w)));
}

// Tiles: some rows of each phase, and the outputs that look at them.
struct Plan {
  const Layer &layer;
  int64_t rows, columns;  // of the largest phase; columns in whole runs
  int64_t first, last;    // the rows, and columns, of outputs that look at rows of inputs 0 .. stride - 1
  int64_t band = 0;       // rows of each phase in a tile
  int64_t pitch = 0;      // from filter to filter of its outputs

  // The outputs that look at `count` rows of each phase from `row` on.
  Band Outputs(int64_t row, int64_t count) const {
    return {row + first, first, count + last - first, columns + last - first, 1, 1};
  }
  // From one row of inputs to the next: a vector for each.
  int64_t RowPitch() const { return columns * layer.stride * kLanes; }
};

Plan PlanOf(const Layer &layer) {
  Plan plan{layer, CeilDiv(layer.height, layer.stride), RoundUp(CeilDiv(layer.width, layer.stride), kRun),
            CeilDiv(layer.padding - (layer.kernel - 1), layer.stride),
            (layer.padding + layer.stride - 1) / layer.stride};
  plan.band = BandRows(layer, plan.rows, [&](int64_t count) {
    return layer.filters * plan.Outputs(0, count).Pitch() + 2 * count * layer.stride * plan.RowPitch();
  });
  plan.pitch = plan.Outputs(0, plan.band).Pitch();
  return plan;
}

// The inputs at rows row, row + stride, ... and columns col, col + stride, ..., which are read by the same taps.
struct Phase {
  int64_t row, col;
  std::vector<int64_t> offsets = {};  // of the taps [filter, i, j], among the outputs
  std::vector<float> weights = {};    // [vector of channels, tap, lane], one tap more being NaN where any of them is
};

Phase PhaseOf(const Plan &plan, int64_t row, int64_t col, const float *w) {
  Phase phase{row, col};
  const Layer &layer = plan.layer;
  const Band outputs = plan.Outputs(0, plan.band);
  std::vector<int64_t> taps;
  for (int64_t f = 0; f < layer.filters; ++f)
    for (int64_t i = (row + layer.padding) % layer.stride; i < layer.kernel; i += layer.stride)
      for (int64_t j = (col + layer.padding) % layer.stride; j < layer.kernel; j += layer.stride) {
        taps.push_back((f * layer.channels * layer.kernel + i) * layer.kernel + j);
        phase.offsets.push_back(f * plan.pitch + outputs.At((row + layer.padding - i) / layer.stride - plan.first,
                                                            (col + layer.padding - j) / layer.stride - plan.first));
      }
  for (int64_t c = 0; c < layer.channels; c += kLanes) {
    Vec broken = {};
    for (const int64_t tap : taps) {
      for (int64_t i = c; i < c + kLanes; ++i)
        phase.weights.push_back(i < layer.channels ? w[tap + i * layer.kernel * layer.kernel] : 0.0f);
      broken += OnlyNaN(Load(&phase.weights.end()[-kLanes]));
    }
    phase.weights.resize(phase.weights.size() + kLanes);
    Store(&phase.weights.end()[-kLanes], broken);
  }
  return phase;
}

// Of one group of a layer.
class InputGrad {
 public:
  InputGrad(const Layer &layer, int64_t group, const float *dy, const float *x, const float *w)
      : layer_(layer), dy_(dy + layer.InY(group)), x_(x + layer.InX(group)), plan_(PlanOf(layer)) {
    for (int64_t i = 0; i < layer.stride; ++i)
      for (int64_t j = 0; j < layer.stride; ++j) phases_.push_back(PhaseOf(plan_, i, j, w + layer.InW(group)));
  }

  void Run(float *dx) const {
    ForEachBand(layer_, plan_.rows, plan_.band, [&](int64_t n, int64_t row) { RunTile(n, row, dx); });
  }

 private:
  const Layer &layer_;
  const float *const dy_, *const x_;
  const Plan plan_;
  std::vector<Phase> phases_;

  void RunTile(int64_t n, int64_t index, float *dx) const {
    const int64_t row = index * layer_.stride, count = std::min(plan_.band * layer_.stride, layer_.height - row);
    const int64_t plane = layer_.height * layer_.width, row_pitch = plan_.RowPitch();
    const int64_t size = plan_.band * layer_.stride * row_pitch + kLanes * kLanes;
    const Band outputs = plan_.Outputs(index, CeilDiv(count, layer_.stride));
    float *dys = scratch_dy.Get(layer_.filters * plan_.pitch), *xs = scratch_x.Get(size), *sums = scratch_out.Get(size);
    for (int64_t f = 0; f < layer_.filters; ++f)
      outputs.Pack(Plane{dy_ + (n * layer_.AllFilters() + f) * layer_.out_height * layer_.out_width, 0.0f},
                   layer_.out_height, layer_.out_width, 0.0f, dys + f * plan_.pitch);
    for (int64_t c = 0; c < layer_.channels; c += kLanes) {
      const int64_t at = (n * layer_.AllChannels() + c) * plane + row * layer_.width, lanes = layer_.channels - c;
      ForEachRow(count, [&](int64_t i, int64_t length) {
        ToLanes(x_ + at + i * layer_.width, plane, lanes, length, kZeros, xs + i * row_pitch, kLanes);
      });
      for (const Phase &phase : phases_) RunPhase(phase, count, c, outputs.RowPitch(), dys, xs, sums);
      ForEachRow(count, [&](int64_t i, int64_t length) {
        FromLanes(sums + i * row_pitch, plane, lanes, length, dx + at + i * layer_.width);
      });
    }
  }

  // Calls work(row, length) for each of `count` rows, or for all at once where they lie densely.
  template <typename Work>
  void ForEachRow(int64_t count, Work work) const {
    const bool dense = plan_.RowPitch() == layer_.width * kLanes;
    for (int64_t i = 0; i < (dense ? 1 : count); ++i) work(i, dense ? count * layer_.width : layer_.width);
  }

  void RunPhase(const Phase &phase, int64_t count, int64_t c, int64_t dy_pitch, const float *dys, const float *xs,
                float *sums) const {
    const auto block = layer_.norm == 1 ? InputGradBlock<1> : InputGradBlock<2>;
    const int64_t stride = layer_.stride, taps = phase.offsets.size(), in_row = plan_.columns / kRun;
    const int64_t runs = std::max<int64_t>(0, CeilDiv(count - phase.row, stride)) * in_row;
    for (int64_t run = 0; run < runs; run += kInputRuns) {
      const float *from[kInputRuns];
      int64_t at[kInputRuns];
      for (int64_t r = 0; r < kInputRuns; ++r) {
        const int64_t row = std::min(run + r, runs - 1) / in_row, col = std::min(run + r, runs - 1) % in_row * kRun;
        from[r] = dys + row * dy_pitch + col;
        at[r] = (row * stride + phase.row) * plan_.RowPitch() + (col * stride + phase.col) * kLanes;
      }
      block(taps, from, phase.offsets.data(), phase.weights.data() + c * (taps + 1), xs, at, stride * kLanes, sums);
    }
  }
};

}  // namespace

extern "C" {

// Inputs dy [N, F, H', W'], x [N, C, H, W], w [F, C, k, k], all float32, and the geometry [stride, padding + 1, norm],
// see layer.h; output dx as x.
int AdderInputGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor dy = arguments.Next(), x = arguments.Next(), w = arguments.Next(), geometry = arguments.Next();
    const Tensor dx = arguments.Next();
    const Layer layer = LayerOf(x, w, geometry);
    if (layer.Depthwise()) return DepthwiseInputGrad(layer, dy.Data(), x.Data(), w.Data(), dx.Data());
    ForEachGroup(layer, [&](int64_t group) {
      InputGrad(layer, group, dy.Data(), x.Data(), w.Data()).Run(dx.Data() + layer.InX(group));
    });
  });
}

}  // extern "C"
