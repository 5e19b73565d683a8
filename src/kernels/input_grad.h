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
// Gradient of the input of one group of an adder layer on CPU, in whatever numbers.
//
// Each input is seen by the taps of one phase, which is given by its row and column modulo the stride. A register block
// is a vector of channels for some inputs of a phase, where dy is read word by word; see packing.h. A word of 32 bits is
// a float, or smaller numbers of several filters. `Numbers` says how words are packed and added up:
//
//     Words(layer)                         how many words its filters are
//     Numbers(layer, phases, dy, x, w)     of a group; `dy`, `x` and `w` are its own
//     Image Of(n)                          what image n is computed with: `weights`, for each phase words [vector of
//                                          channels, tap and one more, lane]; `unit`, what a sum is worth
//     PackDy(image, n, f, band, out)       word f of dy, for all positions of a band of image n
//     PackX(image, count, x)               makes words of floats
//     kSumsOfDy, Add(sum, words)           whether the sums over the taps of dy alone are wanted; what words add to them
//     Loop(norm)                           the inner loop, see `InputGradBlock`
#ifndef ADDERNGD_INPUT_GRAD_H_
#define ADDERNGD_INPUT_GRAD_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "abi.h"
#include "fixed_point.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"

constexpr int kInputRuns = kRegisters == 32 ? 2 : 1;  // a register block: runs of inputs x a vector of channels
constexpr int kInputs = kInputRuns * kRun;

// The runs of a register block.
struct InputRuns {
  const float *dy[kInputRuns];      // to which the taps' offsets count
  const float *sum_dy[kInputRuns];  // input by input the sum over the taps of dy alone
  int64_t at[kInputRuns];           // where they lie in x and dx
  float unit;                       // what a sum is worth
};

// dx[u][c] = unit * sum_k dy[offset_k + u] * d, d = x[u][c] - w[k][c], which norm 1 clips to -1 .. 1, for a vector of
// channels c and kInputRuns runs of inputs u, which are `step` words apart in x and dx; k runs over words of filters and
// taps of one phase.
using InputGradBlock = void(int64_t taps, const InputRuns &runs, const int64_t *offsets, const float *w, const float *x,
                            int64_t step, float *dx);

// The inputs at rows row, row + stride, ... and columns col, col + stride, ..., which are read by the same taps.
struct Phase {
  struct Tap { int64_t word, place; };  // of filters; in the window

  int64_t row, col;
  std::vector<Tap> taps = {};
  std::vector<int64_t> offsets = {};  // where each tap starts among the outputs
};

// Tiles: some rows of each phase, and the outputs that look at them.
struct InputGradPlan {
  const Layer &layer;
  int64_t rows, columns;  // of the largest phase; columns in whole runs
  int64_t first, last;    // the rows, and columns, of outputs that look at rows of inputs 0 .. stride - 1
  int64_t band = 0;       // rows of each phase in a tile
  int64_t pitch = 0;      // from word to word of its outputs
  std::vector<Phase> phases = {};

  // Of a layer whose filters are so many words.
  InputGradPlan(const Layer &of, int64_t words)
      : layer(of), rows(CeilDiv(of.height, of.stride)), columns(RoundUp(CeilDiv(of.width, of.stride), kRun)),
        first(CeilDiv(of.padding - (of.kernel - 1), of.stride)), last((of.padding + of.stride - 1) / of.stride) {
    band = BandRows(layer, rows, [&](int64_t count) {
      return words * Outputs(0, count).Pitch() + 2 * count * layer.stride * RowPitch();
    });
    pitch = Outputs(0, band).Pitch();
    for (int64_t i = 0; i < layer.stride; ++i)
      for (int64_t j = 0; j < layer.stride; ++j) phases.push_back(PhaseOf(i, j, words));
  }

  // The outputs that look at `count` rows of each phase from `row` on.
  Band Outputs(int64_t row, int64_t count) const {
    return {row + first, first, count + last - first, columns + last - first, 1, 1};
  }
  // From one row of inputs to the next: a vector for each.
  int64_t RowPitch() const { return columns * layer.stride * kLanes; }
  // Of a phase, in `count` rows of inputs.
  int64_t Runs(const Phase &phase, int64_t count) const {
    return std::max<int64_t>(0, CeilDiv(count - phase.row, layer.stride)) * (columns / kRun);
  }

 private:
  Phase PhaseOf(int64_t row, int64_t col, int64_t words) const {
    Phase phase{row, col};
    const Band outputs = Outputs(0, band);
    for (int64_t f = 0; f < words; ++f)
      for (int64_t i = (row + layer.padding) % layer.stride; i < layer.kernel; i += layer.stride)
        for (int64_t j = (col + layer.padding) % layer.stride; j < layer.kernel; j += layer.stride) {
          phase.taps.push_back({f, i * layer.kernel + j});
          phase.offsets.push_back(f * pitch + outputs.At((row + layer.padding - i) / layer.stride - first,
                                                         (col + layer.padding - j) / layer.stride - first));
        }
    return phase;
  }
};

template <typename Numbers>
class InputGrad {
 public:
  InputGrad(const Layer &layer, int64_t group, const float *dy, const float *x, const float *w)
      : layer_(layer), x_(x + layer.InX(group)), words_(Numbers::Words(layer)), plan_(layer, words_),
        numbers_(layer, plan_.phases, dy + layer.InY(group), x_, w + layer.InW(group)) {}

  void Run(float *dx) {
    ForEachBand(layer_, plan_.rows, plan_.band, [&](int64_t n, int64_t row) { RunTile(n, row, dx); });
  }

 private:
  const Layer &layer_;
  const float *const x_;
  const int64_t words_;
  const InputGradPlan plan_;
  Numbers numbers_;

  void RunTile(int64_t n, int64_t index, float *dx) {
    const int64_t row = index * layer_.stride, count = std::min(plan_.band * layer_.stride, layer_.height - row);
    const int64_t plane = layer_.height * layer_.width, row_pitch = plan_.RowPitch();
    const int64_t size = plan_.band * layer_.stride * row_pitch + kLanes * kLanes;
    const Band outputs = plan_.Outputs(index, CeilDiv(count, layer_.stride));
    const auto image = numbers_.Of(n);
    float *dys = scratch_dy.Get(words_ * plan_.pitch), *xs = scratch_x.Get(size), *sums = scratch_out.Get(size);
    for (int64_t f = 0; f < words_; ++f) numbers_.PackDy(image, n, f, outputs, dys + f * plan_.pitch);
    const std::vector<const float *> sums_dy = SumsOfDy(dys, outputs, count);
    for (int64_t c = 0; c < layer_.channels; c += kLanes) {
      const int64_t at = (n * layer_.AllChannels() + c) * plane + row * layer_.width, lanes = layer_.channels - c;
      ForEachRow(count, [&](int64_t i, int64_t length) {
        ToLanes(x_ + at + i * layer_.width, plane, lanes, length, kZeros, xs + i * row_pitch, kLanes);
        numbers_.PackX(image, RoundUp(length, kLanes) * kLanes, xs + i * row_pitch);
      });
      for (size_t p = 0; p < plan_.phases.size(); ++p)
        RunPhase(plan_.phases[p], count, outputs.RowPitch(), dys, sums_dy[p], xs,
                 image.weights[p].data() + c * (plan_.phases[p].taps.size() + 1), image.unit, sums);
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

  // For each phase the sums over its taps of dy alone, [run, kRun], where they are wanted, by way of the sums over
  // filters.
  std::vector<const float *> SumsOfDy(const float *dys, const Band &outputs, int64_t count) const {
    std::vector<const float *> found(plan_.phases.size(), kZeros);
    if constexpr (Numbers::kSumsOfDy) {
      int64_t size = plan_.pitch + kLanes;
      for (const Phase &phase : plan_.phases) size += plan_.Runs(phase, count) * kRun;
      float *const of_words = scratch_sum.Get(size), *out = of_words + plan_.pitch + kLanes;
      for (int64_t i = 0; i < outputs.rows * outputs.RowPitch(); i += kLanes) {
        Sums lanes = {};
        for (int64_t f = 0; f < words_; ++f) lanes = Numbers::Add(lanes, dys + f * plan_.pitch + i);
        StoreAs(of_words + i, lanes);
      }
      for (size_t p = 0; p < plan_.phases.size(); ++p) {
        found[p] = out;
        for (int64_t run = 0; run < plan_.Runs(plan_.phases[p], count); ++run, out += kRun)
          SumTaps(plan_.phases[p], of_words + At(run, outputs.RowPitch()), out);
      }
    }
    return found;
  }

  // Over the taps of a word of filters, for the inputs of a run.
  static void SumTaps(const Phase &phase, const float *dys, float *out) {
    for (int u = 0; u < kRun; ++u) {
      uint32_t sum = 0;
      for (size_t k = 0; k < phase.taps.size() && phase.taps[k].word == 0; ++k)
        sum += LoadAs<uint32_t>(dys + phase.offsets[k] + u);
      StoreAs(out + u, sum);
    }
  }

  // Where the outputs of a run lie.
  int64_t At(int64_t run, int64_t dy_pitch) const {
    const int64_t in_row = plan_.columns / kRun;
    return run / in_row * dy_pitch + run % in_row * kRun;
  }

  void RunPhase(const Phase &phase, int64_t count, int64_t dy_pitch, const float *dys, const float *sums_dy,
                const float *xs, const float *weights, float unit, float *sums) const {
    InputGradBlock *const block = Numbers::Loop(layer_.norm);
    const int64_t stride = layer_.stride, in_row = plan_.columns / kRun, runs = plan_.Runs(phase, count);
    for (int64_t run = 0; run < runs; run += kInputRuns) {
      InputRuns at;
      at.unit = unit;
      for (int64_t r = 0; r < kInputRuns; ++r) {
        const int64_t number = std::min(run + r, runs - 1);
        at.dy[r] = dys + At(number, dy_pitch);
        at.sum_dy[r] = Numbers::kSumsOfDy ? sums_dy + number * kRun : sums_dy;
        at.at[r] = (number / in_row * stride + phase.row) * plan_.RowPitch() +
                   (number % in_row * kRun * stride + phase.col) * kLanes;
      }
      block(phase.taps.size(), at, phase.offsets.data(), weights, xs, stride * kLanes, sums);
    }
  }
};

// Inputs dy [N, F, H', W'], x [N, C, H, W], w [F, C, k, k], all float32, and the geometry [stride, padding + 1, norm],
// see layer.h; output dx as x.
struct GradientOfX {
  Layer layer;
  const float *dy, *x, *w;
  float *dx;

  explicit GradientOfX(Arguments arguments) {
    const Tensor outputs = arguments.Next(), inputs = arguments.Next(), filters = arguments.Next();
    const Tensor geometry = arguments.Next(), gradient = arguments.Next();
    layer = LayerOf(inputs, filters, geometry);
    dy = outputs.Data(), x = inputs.Data(), w = filters.Data(), dx = gradient.Data();
  }
};

#endif  // ADDERNGD_INPUT_GRAD_H_
