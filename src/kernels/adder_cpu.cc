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
// Adder layer on CPU. Norm 1: y = -sum |x - w| (arXiv 1912.13200, eq. 2); norm 2: y = -1/2 sum (x - w)^2 (arXiv
// 2212.11803). The gradients are sums of dy times a function of x - w: of norm 2 x - w itself, of norm 1 AdderNet's
// choice (eqs. 5, 6).
//
// sum |x - w| = 2 * (sum max(x, w) - sum x / 2 - sum w / 2): a maximum and a multiply-add, by one, issue side by side,
// and so a pair (x, w) costs what a pair of a convolution costs. The two other sums are one per position and one per
// filter; they are what the accumulators start from, so that no two large sums cancel at the end. Likewise
// -sum (x - w)^2 / 2 = sum x * w - sum x^2 / 2 - sum w^2 / 2. x and w are centred before, by a constant per channel,
// which changes no difference and keeps the accuracy where both lie far from zero.
//
// Every inner loop is an outer product: a vector of filters or channels meets a few single values of the other operand,
// all in registers. See packing.h for the layouts. Tiles of an image are shared out among threads; no result depends on
// how many there are.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "abi.h"
#include "packing.h"
#include "simd.h"
#include "threads.h"

namespace {

// Register blocks: accumulators plus operands fill the register file.
constexpr int kRun = 4;                                  // positions side by side in memory
constexpr int kRuns = kRegisters == 32 ? 4 : 2;          // forward: runs of positions x a vector of filters
constexpr int kInputRuns = kRegisters == 32 ? 2 : 1;     // input gradient: runs of positions x a vector of channels
constexpr int kBlock = kRegisters == 32 ? 16 : 8;        // weight gradient: channels x a vector of filters
static_assert(kRuns * kRun % kLanes == 0 && kBlock % kLanes == 0, "transposed in squares");

constexpr int64_t kSumLength = 256;                      // weight gradient: positions in a sum, if there are
constexpr int64_t kGroups = 16;                          // its partial sums; fixed, for the same result on any machine
constexpr int64_t kGroupsSize = 4 << 20;                 // and all of them together, in floats, at most
constexpr float kZeros[kBlock] = {};

thread_local Scratch scratch_x, scratch_dy, scratch_sum, scratch_out;

// A constant per channel: the mean weight there.
std::vector<float> Centres(const Layer &l, const float *w) {
  std::vector<float> by_tap(l.taps, 0.0f), centres(l.channels, 0.0f);
  for (int64_t f = 0; f < l.filters; ++f)
    for (int64_t k = 0; k < l.taps; ++k) by_tap[k] += w[f * l.taps + k];
  const int64_t window = l.kernel * l.kernel;
  for (int64_t k = 0; k < l.taps; ++k) centres[k / window] += by_tap[k] / (l.filters * window);
  return centres;
}

// ---- forward ----

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
  int64_t vectors;
  std::vector<float> values, half_sums;

  Filters(const Layer &l, const float *w, const std::vector<float> &centres)
      : vectors(CeilDiv(l.filters, kLanes)), values((vectors * l.taps + kLanes) * kLanes), half_sums(vectors * kLanes) {
    for (int64_t f = 0; f < l.filters; f += kLanes) {
      float *tap = &values[f * l.taps];
      ToLanes(w + f * l.taps, l.taps, l.filters - f, l.taps, kZeros, tap, kLanes);
      double sums[kLanes] = {};
      for (const float centre : centres)
        for (int64_t k = 0; k < l.kernel * l.kernel; ++k, tap += kLanes)
          for (int i = 0; i < kLanes; ++i) sums[i] += Power(tap[i] -= centre, l.norm);
      for (int i = 0; i < kLanes; ++i) half_sums[f + i] = static_cast<float>(sums[i] / 2);
    }
  }
};

// What happens to the sums on their way to memory: y = max(floor, scale * sum + shift + residual).
struct Epilogue {
  std::vector<float> scale, shift;  // per filter
  const float *residual = nullptr;  // as y
  float floor = -std::numeric_limits<float>::infinity();

  explicit Epilogue(const Layer &l) : scale(l.filters, l.norm == 1 ? -2.0f : 1.0f), shift(l.filters, 0.0f) {}

  // To y[at], y[at + 1], ..., of filter f.
  void Apply(const float *sums, int64_t count, int64_t f, int64_t at, float *y) const {
    for (int64_t i = 0; i < count; i += kLanes) {
      Vec value = Load(sums + i) * scale[f] + shift[f];
      if (residual) value += LoadFirst(residual + at + i, count - i);
      StoreFirst(y + at + i, Max(Splat(floor), value), count - i);
    }
  }
};

class Forward {
 public:
  Forward(const Layer &layer, const float *x_, const float *w, const Epilogue &epilogue)
      : l(layer), x(x_), e(epilogue), centres(Centres(l, w)), filters(l, w, centres),
        columns(RoundUp(l.out_width, kRun)),
        band(BandRows(l, l.out_height, [&](int64_t rows) { return l.channels * Inputs(0, rows).Pitch(); })) {
    const Band in = Inputs(0, band);
    for (int64_t c = 0; c < l.channels; ++c)
      for (int64_t i = 0; i < l.kernel; ++i)
        for (int64_t j = 0; j < l.kernel; ++j) offsets.push_back(c * in.Pitch() + in.At(i, j));
    for (int64_t row = 0; row < band; ++row)
      for (int64_t q = 0; q < columns; q += kRun) runs.push_back(in.At(row * l.stride, 0) + q);
    runs.resize(RoundUp(runs.size(), kRuns), 0);
  }

  void Run(float *y) const {
    ForEachBand(l, l.out_height, band, [&](int64_t n, int64_t row) { RunTile(n, row, y); });
  }

 private:
  const Layer &l;
  const float *x;
  const Epilogue &e;
  const std::vector<float> centres;
  const Filters filters;
  const int64_t columns;               // of the output, in whole runs
  const int64_t band;                  // rows of the output in a tile
  std::vector<int64_t> offsets, runs;  // where each tap, and each run of outputs, starts among the inputs

  // What `rows` rows of the output from `row` on read.
  Band Inputs(int64_t row, int64_t rows) const {
    return {row * l.stride - l.padding, -l.padding, (rows - 1) * l.stride + l.kernel,
            columns + (l.kernel - 1) / l.stride, l.stride, std::min(l.kernel, l.stride)};
  }

  void RunTile(int64_t n, int64_t row, float *y) const {
    const int64_t rows = std::min(band, l.out_height - row), plane = l.height * l.width;
    const int64_t pitch = Inputs(0, band).Pitch(), out_pitch = runs.size() * kRun;
    const Band in = Inputs(row, rows);
    float *xs = scratch_x.Get(l.channels * pitch), *half_sums = scratch_sum.Get(pitch + out_pitch + kLanes);
    float *sums = scratch_out.Get(kLanes * out_pitch);
    for (int64_t c = 0; c < l.channels; ++c)
      in.Pack(x + (n * l.channels + c) * plane, l.height, l.width, centres[c], -centres[c], xs + c * pitch);
    HalfSums(xs, in, pitch, half_sums + pitch, rows, half_sums);
    const auto block = l.norm == 1 ? ForwardBlock<1> : ForwardBlock<2>;
    for (int64_t f = 0; f < l.filters; f += kLanes) {
      for (int64_t run = 0; run * kRun < rows * columns; run += kRuns)
        block(l.taps, xs, &runs[run], offsets.data(), &filters.values[f * l.taps], half_sums + pitch + run * kRun,
              &filters.half_sums[f], sums + run * kRun, out_pitch);
      for (int64_t i = 0; i < std::min<int64_t>(kLanes, l.filters - f); ++i)
        Finish(sums + i * out_pitch, rows, f + i, ((n * l.filters + f + i) * l.out_height + row) * l.out_width, y);
    }
  }

  // Half the sum over each window of x alone, or of its squares, as the outputs lie; `sums` is for the channels' sums.
  void HalfSums(const float *xs, const Band &in, int64_t pitch, float *out, int64_t rows, float *sums) const {
    for (int64_t i = 0; i < in.rows * in.RowPitch(); i += kLanes) {
      Vec lanes = {};
      for (int64_t c = 0; c < l.channels; ++c) lanes += Power(Load(xs + c * pitch + i), l.norm);
      Store(sums + i, lanes);
    }
    for (int64_t row = 0; row < rows; ++row, out += columns)
      for (int64_t q = 0; q < columns; q += kLanes) {
        Vec lanes = {};
        for (int64_t i = 0; i < l.kernel; ++i)
          for (int64_t j = 0; j < l.kernel; ++j) lanes += Load(sums + in.At(row * l.stride + i, j) + q);
        Store(out + q, lanes * 0.5f);
      }
  }

  void Finish(const float *sums, int64_t rows, int64_t f, int64_t at, float *y) const {
    if (columns == l.out_width) return e.Apply(sums, rows * columns, f, at, y);
    for (int64_t row = 0; row < rows; ++row)
      e.Apply(sums + row * columns, l.out_width, f, at + row * l.out_width, y);
  }
};

// ---- gradient of the input ----

// dx[u][c] = -sum_k dy[offset_k + u] * d, d = x[u][c] - w[k][c], which norm 1 clips to -1 .. 1, for a vector of
// channels c and kInputRuns runs of inputs u, which are `step` floats apart in x and dx, both counted from at[run]; k
// runs over filters and taps of one phase.
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
  for (int u = 0; u < kInputs; ++u) Store(dx + at[u / kRun] + u % kRun * step, -sum[u]);
}

class InputGrad {
 public:
  InputGrad(const Layer &layer, const float *dy_, const float *x_, const float *w)
      : l(layer), dy(dy_), x(x_), rows(CeilDiv(l.height, l.stride)),
        columns(RoundUp(CeilDiv(l.width, l.stride), kRun)), first(CeilDiv(l.padding - (l.kernel - 1), l.stride)),
        last((l.padding + l.stride - 1) / l.stride), band(BandRows(l, rows, [&](int64_t count) {
          return l.filters * Outputs(0, count).Pitch() + 2 * count * l.stride * RowPitch();
        })) {
    for (int64_t i = 0; i < l.stride; ++i)
      for (int64_t j = 0; j < l.stride; ++j) phases.push_back(PhaseAt(i, j, w));
  }

  void Run(float *dx) const {
    ForEachBand(l, rows, band, [&](int64_t n, int64_t row) { RunTile(n, row, dx); });
  }

 private:
  // The inputs at rows row, row + stride, ... and columns col, col + stride, ...: all are read by the same taps.
  struct Phase {
    int64_t row, col;
    std::vector<int64_t> offsets;  // of the taps [filter, i, j], among the outputs
    std::vector<float> weights;    // [vector of channels, tap, lane]
  };

  const Layer &l;
  const float *dy, *x;
  const int64_t rows, columns;  // of the largest phase; columns in whole runs
  const int64_t first, last;    // the rows, and columns, of outputs that look at rows of inputs 0 .. stride - 1
  const int64_t band;           // rows of each phase in a tile
  std::vector<Phase> phases;

  // The outputs that look at `count` rows of each phase from `row` on.
  Band Outputs(int64_t row, int64_t count) const {
    return {row + first, first, count + last - first, columns + last - first, 1, 1};
  }
  // From one row of inputs to the next: a vector for each.
  int64_t RowPitch() const { return columns * l.stride * kLanes; }

  Phase PhaseAt(int64_t row, int64_t col, const float *w) const {
    Phase p{row, col, {}, {}};
    const Band out = Outputs(0, band);
    std::vector<int64_t> taps;
    for (int64_t f = 0; f < l.filters; ++f)
      for (int64_t i = (row + l.padding) % l.stride; i < l.kernel; i += l.stride)
        for (int64_t j = (col + l.padding) % l.stride; j < l.kernel; j += l.stride) {
          taps.push_back((f * l.channels * l.kernel + i) * l.kernel + j);
          p.offsets.push_back(f * out.Pitch() + out.At((row + l.padding - i) / l.stride - first,
                                                       (col + l.padding - j) / l.stride - first));
        }
    for (int64_t c = 0; c < l.channels; c += kLanes)
      for (const int64_t tap : taps)
        for (int64_t i = c; i < c + kLanes; ++i)
          p.weights.push_back(i < l.channels ? w[tap + i * l.kernel * l.kernel] : 0.0f);
    return p;
  }

  void RunTile(int64_t n, int64_t index, float *dx) const {
    const int64_t row = index * l.stride, count = std::min(band * l.stride, l.height - row), plane = l.height * l.width;
    const Band out = Outputs(index, CeilDiv(count, l.stride));
    const int64_t pitch = Outputs(0, band).Pitch(), size = band * l.stride * RowPitch() + kLanes * kLanes;
    float *dys = scratch_dy.Get(l.filters * pitch), *xs = scratch_x.Get(size), *sums = scratch_out.Get(size);
    for (int64_t f = 0; f < l.filters; ++f)
      out.Pack(dy + (n * l.filters + f) * l.out_height * l.out_width, l.out_height, l.out_width, 0.0f, 0.0f,
               dys + f * pitch);
    for (int64_t c = 0; c < l.channels; c += kLanes) {
      const int64_t at = (n * l.channels + c) * plane + row * l.width;
      ForEachRow(count, [&](int64_t i, int64_t length) {
        ToLanes(x + at + i * l.width, plane, l.channels - c, length, kZeros, xs + i * RowPitch(), kLanes);
      });
      for (const Phase &p : phases) RunPhase(p, count, c, out.RowPitch(), dys, xs, sums);
      ForEachRow(count, [&](int64_t i, int64_t length) {
        FromLanes(sums + i * RowPitch(), plane, l.channels - c, length, dx + at + i * l.width);
      });
    }
  }

  // Calls work(row, length) for each of `count` rows, or for all at once where they lie densely.
  template <typename Work>
  void ForEachRow(int64_t count, Work work) const {
    const bool dense = RowPitch() == l.width * kLanes;
    for (int64_t i = 0; i < (dense ? 1 : count); ++i) work(i, dense ? count * l.width : l.width);
  }

  void RunPhase(const Phase &p, int64_t count, int64_t c, int64_t dy_pitch, const float *dys, const float *xs,
                float *sums) const {
    const auto block = l.norm == 1 ? InputGradBlock<1> : InputGradBlock<2>;
    const int64_t taps = p.offsets.size(), in_row = columns / kRun;
    const int64_t runs = std::max<int64_t>(0, CeilDiv(count - p.row, l.stride)) * in_row;
    for (int64_t run = 0; run < runs; run += kInputRuns) {
      const float *from[kInputRuns];
      int64_t at[kInputRuns];
      for (int64_t r = 0; r < kInputRuns; ++r) {
        const int64_t row = std::min(run + r, runs - 1) / in_row, col = std::min(run + r, runs - 1) % in_row * kRun;
        from[r] = dys + row * dy_pitch + col;
        at[r] = (row * l.stride + p.row) * RowPitch() + (col * l.stride + p.col) * kLanes;
      }
      block(taps, from, p.offsets.data(), p.weights.data() + c * taps, xs, at, l.stride * kLanes, sums);
    }
  }
};

// ---- gradient of the filters ----

// Of dy[q][f] for each (c, f): the sum of its products with x[q][c], or with the sign of x[q][c] - w[c][f].
enum class Sum { kOfProducts, kOfSigns };

// How one operand of the weight gradient goes on from image to image, row to row, position to position.
struct Steps {
  int64_t image, row, position;
};

// out[c][f] += the sum over all positions, for kBlock channels and a vector of filters.
template <Sum kind>
NO_INLINE void WeightGradBlock(int64_t images, int64_t rows, int64_t columns, const float *dy, const Steps &dy_steps,
                               const float *x, const Steps &x_steps, const float *w, float *out) {
  Vec sum[kBlock] = {};
  for (int64_t n = 0; n < images; ++n)
    for (int64_t row = 0; row < rows; ++row) {
      const float *dys = dy + n * dy_steps.image + row * dy_steps.row, *xs = x + n * x_steps.image + row * x_steps.row;
      for (int64_t q = 0; q < columns; ++q, dys += kLanes, xs += x_steps.position) {
        const Vec g = InRegister(Load(dys));
        UNROLL
        for (int c = 0; c < kBlock; ++c)
          sum[c] = kind == Sum::kOfProducts ? AddProduct(sum[c], g, xs + c)
                                            : AddSign(sum[c], g, xs + c, Load(w + c * kLanes));
      }
    }
  UNROLL
  for (int c = 0; c < kBlock; ++c) Store(out + c * kLanes, Load(out + c * kLanes) + sum[c]);
}

// dw = mix * sum dy * (x - w) + (1 - mix) * sum dy * sign(x - w), the former as (sum dy * x) - w * (sum dy) with x and
// w centred. Each group of tiles has sums of its own, added up in order at the end.
class WeightGrad {
 public:
  WeightGrad(const Layer &layer, const float *dy_, const float *x_, const float *weights, float mix_)
      : l(layer), mix(mix_), dy(dy_), x(x_), window(l.kernel * l.kernel), blocks(CeilDiv(l.channels, kBlock)),
        vectors(CeilDiv(l.filters, kLanes)),
        centres(mix == 0.0 ? std::vector<float>(l.channels) : Centres(l, weights)), w(Size(blocks), 0.0f),
        rows(std::max<int64_t>(1, std::min(l.out_height, kSumLength / l.out_width))),
        bands(CeilDiv(l.out_height, rows)),
        images(std::max<int64_t>(1, std::min(l.batch, kSumLength / (rows * l.out_width)))),
        tiles(CeilDiv(l.batch, images) * bands),
        groups(std::min({tiles, kGroups, std::max<int64_t>(1, kGroupsSize / Size(blocks))})),
        parts(groups < 2 * l.threads ? std::min(blocks, CeilDiv(2 * l.threads, groups)) : 1) {
    for (int64_t c = 0; c < l.channels; ++c)
      for (int64_t i = 0; i < window; ++i)
        for (int64_t f = 0; f < l.filters; ++f)
          w[At(f, c, i)] = weights[(f * l.channels + c) * window + i] - centres[c];
  }

  void Run(float *dw) const {
    const int64_t size = Size(blocks);
    const std::unique_ptr<float[]> products(mix != 0.0 ? new float[groups * size] : nullptr);
    const std::unique_ptr<float[]> signs(mix != 1.0 ? new float[groups * size] : nullptr);
    std::vector<double> sums(groups * vectors * kLanes, 0.0);
    Threads::ForEach(l.threads, groups * parts, [&](int64_t item) {
      const int64_t part = item % parts, group = item / parts;
      const int64_t first = blocks * part / parts, last = blocks * (part + 1) / parts;
      float *const product = products ? &products[group * size] : nullptr;
      float *const sign = signs ? &signs[group * size] : nullptr;
      for (float *out : {product, sign})
        if (out) std::fill_n(out + Size(first), Size(last - first), 0.0f);
      for (int64_t tile = group; tile < tiles; tile += groups)
        RunTile(tile, first, last, product, sign, part ? nullptr : &sums[group * vectors * kLanes]);
    });
    for (int64_t group = 1; group < groups; ++group)
      for (int64_t f = 0; f < vectors * kLanes; ++f) sums[f] += sums[group * vectors * kLanes + f];
    Threads::ForEach(l.threads, l.channels * window, [&](int64_t tap) {
      for (int64_t v = 0; v < vectors; ++v)
        Combine(tap / window, tap % window, v, products.get(), signs.get(), &sums[v * kLanes], dw);
    });
  }

 private:
  const Layer &l;
  const double mix;
  const float *dy, *x;
  const int64_t window, blocks, vectors;     // taps of a channel; blocks of channels, vectors of filters
  const std::vector<float> centres;
  std::vector<float> w;                      // centred, as At says
  const int64_t rows, bands, images, tiles;  // a tile is `rows` rows of `images` images
  const int64_t groups, parts;               // of tiles; of blocks

  // Sums and weights lie as [block of channels, tap, vector of filters, channel of the block, lane].
  int64_t Size(int64_t n) const { return n * window * vectors * kBlock * kLanes; }
  int64_t At(int64_t f, int64_t c, int64_t i) const {
    return (((c / kBlock * window + i) * vectors + f / kLanes) * kBlock + c % kBlock) * kLanes + f % kLanes;
  }

  // Writes tap i of channel c for a vector of filters.
  void Combine(int64_t c, int64_t i, int64_t v, const float *products, const float *signs, const double *sums,
               float *dw) const {
    const int64_t at = At(v * kLanes, c, i), size = Size(blocks);
    double linear[kLanes], sign[kLanes];
    for (int f = 0; f < kLanes; ++f) linear[f] = -w[at + f] * sums[f], sign[f] = 0.0;
    for (int64_t group = 0; group < groups; ++group)
      for (int f = 0; f < kLanes; ++f) {
        if (products) linear[f] += products[group * size + at + f];
        if (signs) sign[f] += signs[group * size + at + f];
      }
    float *out = dw + (v * kLanes * l.channels + c) * window + i;
    for (int64_t f = 0; f < std::min<int64_t>(kLanes, l.filters - v * kLanes); ++f)
      out[f * l.taps] = static_cast<float>(mix * linear[f] + (1.0 - mix) * sign[f]);
  }

  // Adds what a tile gives to blocks [first_block, last_block), and, where wanted, to the sums of dy.
  void RunTile(int64_t index, int64_t first_block, int64_t last_block, float *products, float *signs,
               double *sums) const {
    const int64_t row = index % bands * rows, first = index / bands * images;
    const int64_t count = std::min(images, l.batch - first), height = std::min(rows, l.out_height - row);
    const int64_t width = (l.out_width - 1) * l.stride + l.kernel;  // of the inputs that are read
    const Steps dy_steps{rows * l.out_width * kLanes, l.out_width * kLanes, kLanes};
    const Steps x_steps{((rows - 1) * l.stride + l.kernel) * width * kBlock, l.stride * width * kBlock,
                        l.stride * kBlock};
    const int64_t dy_size = images * dy_steps.image, x_size = images * x_steps.image, behind = kLanes * kBlock;
    float *dys = scratch_dy.Get(vectors * dy_size + behind), *xs = scratch_x.Get(x_size + behind);
    for (int64_t v = 0; v < vectors; ++v)
      for (int64_t n = 0; n < count; ++n)
        ToLanes(dy + (((first + n) * l.filters + v * kLanes) * l.out_height + row) * l.out_width,
                l.out_height * l.out_width, l.filters - v * kLanes, height * l.out_width, kZeros,
                dys + v * dy_size + n * dy_steps.image, kLanes);
    for (int64_t block = first_block; block < last_block; ++block) {
      for (int64_t n = 0; n < count; ++n)
        PackInputs(first + n, block * kBlock, row * l.stride - l.padding, (height - 1) * l.stride + l.kernel, width,
                   xs + n * x_steps.image);
      const auto run = [&](auto sum_block, float *out) {
        for (int64_t v = 0; v < vectors; ++v)
          for (int64_t i = 0; i < window; ++i) {
            const int64_t at = At(v * kLanes, block * kBlock, i);
            sum_block(count, height, l.out_width, dys + v * dy_size, dy_steps,
                      xs + (i / l.kernel * width + i % l.kernel) * kBlock, x_steps, &w[at], out + at);
          }
      };
      if (products) run(WeightGradBlock<Sum::kOfProducts>, products);
      if (signs) run(WeightGradBlock<Sum::kOfSigns>, signs);
    }
    for (int64_t v = 0; sums && v < vectors; ++v)
      for (int64_t n = 0; n < count; ++n) {
        Vec lanes = {};
        const float *image = dys + v * dy_size + n * dy_steps.image;
        for (int64_t q = 0; q < height * l.out_width; ++q) lanes += Load(image + q * kLanes);
        for (int i = 0; i < kLanes; ++i) sums[v * kLanes + i] += lanes[i];
      }
  }

  // kBlock channels from c on, centred: [row, column, channel], from row `top` and column -padding on.
  void PackInputs(int64_t n, int64_t c, int64_t top, int64_t height, int64_t width, float *out) const {
    float outside[kBlock] = {}, centre[kBlock] = {};
    for (int64_t i = 0; i < std::min<int64_t>(kBlock, l.channels - c); ++i) outside[i] = -(centre[i] = centres[c + i]);
    const int64_t before = std::min(l.padding, width), inside = std::max<int64_t>(0, std::min(l.width, width - before));
    const auto pad = [&](int64_t from, int64_t to) {
      for (int64_t q = from; q < to; ++q) std::copy_n(outside, kBlock, out + q * kBlock);
    };
    for (int64_t row = top; row < top + height; ++row, out += width * kBlock) {
      const bool there = row >= 0 && row < l.height;
      pad(0, there ? before : width);
      if (!there) continue;
      for (int64_t i = 0; i < kBlock; i += kLanes)
        ToLanes(x + ((n * l.channels + c + i) * l.height + row) * l.width, l.height * l.width, l.channels - c - i,
                inside, centre + i, out + before * kBlock + i, kBlock);
      pad(before + inside, width);
    }
  }
};

}  // namespace

// MindSpore's calling convention for ahead-of-time operators. All tensors float32 but
// `geometry`, int32 [stride, padding, threads, norm].
extern "C" {

// Inputs x [N, C, H, W], w [F, C, k, k], geometry; output y [N, F, H', W'].
int AdderForward(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[0], shapes[1], In<int32_t>(params, 2));
    Forward(l, In(params, 0), In(params, 1), Epilogue(l)).Run(Out(params, 3));
  });
}

// Inputs x, w, scale [F], shift [F], residual as y or nothing, and geometry [stride, padding, threads, norm, relu];
// output scale * y + shift + residual, then ReLU where it is wanted: the layer with all that follows it.
int AdderForwardFolded(int count, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const int32_t *geometry = In<int32_t>(params, count - 2);
    const Layer l(shapes[0], shapes[1], geometry);
    Epilogue epilogue(l);
    for (int64_t f = 0; f < l.filters; ++f) epilogue.scale[f] *= In(params, 2)[f];
    std::copy_n(In(params, 3), l.filters, epilogue.shift.begin());
    if (count == 7) epilogue.residual = In(params, 4);
    if (geometry[4]) epilogue.floor = 0.0f;
    Forward(l, In(params, 0), In(params, 1), epilogue).Run(Out(params, count - 1));
  });
}

// Inputs dy [N, F, H', W'], x, w, geometry; output dx [N, C, H, W] = sum dy * clip(w - x, -1, 1), or sum dy * (w - x)
// in norm 2.
int AdderInputGrad(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[1], shapes[2], In<int32_t>(params, 3));
    InputGrad(l, In(params, 0), In(params, 1), In(params, 2)).Run(Out(params, 4));
  });
}

// Inputs dy, x, w, mix [1], geometry; output dw [F, C, k, k] = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)),
// before any adaptive rate.
int AdderWeightGrad(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[1], shapes[2], In<int32_t>(params, 4));
    WeightGrad(l, In(params, 0), In(params, 1), In(params, 2), *In(params, 3)).Run(Out(params, 5));
  });
}

}  // extern "C"
