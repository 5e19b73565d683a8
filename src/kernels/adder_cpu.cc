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
// 2212.11803). The gradients are sums of dy times a function of x - w: of norm 2 x - w itself, of norm 1 its sign, or
// AdderNet's choice of both (eqs. 5, 6); `mix` goes from one to the other.
//
// sum |x - w| = 2 * (sum max(x, w) - sum x / 2 - sum w / 2): a maximum and a multiply-add, by one, issue side by side,
// and so a pair (x, w) costs what a pair of a convolution costs. The two other sums are one per position and one per
// filter; they are what the accumulators start from, so that no two large sums cancel at the end. Likewise
// -sum (x - w)^2 / 2 = sum x * w - sum x^2 / 2 - sum w^2 / 2. x and w are centred before, by a constant per channel,
// which changes no difference and keeps the accuracy where both lie far from zero.
//
// Tiles (see packing.h) are shared out among threads; no result depends on how many there are.

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "abi.h"
#include "packing.h"
#include "simd.h"
#include "threads.h"

namespace {

// Register blocks: accumulators plus operands fill the register file.
constexpr int kVectors = 2;                              // vectors of positions
constexpr int kFilters = kRegisters == 32 ? 8 : 4;       // forward: filters x vectors
constexpr int kChannels = kRegisters == 32 ? 4 : 2;      // input gradient: channels x vectors
constexpr int kRows = kRegisters == 32 ? 4 : 2;          // weight gradient: filters x taps
constexpr int kTaps = kRegisters == 32 ? 6 : 4;
constexpr int64_t kDotLength = 1024;                     // weight gradient: positions in a dot product, if there are
constexpr int64_t kGroups = 16;                          // its partial sums; fixed, for the same result on any machine
constexpr int64_t kGroupsSize = 4 << 20;                 // and all of them together, in floats, at most

thread_local Scratch scratch_x, scratch_sum, scratch_dy, scratch_out;

// How many parts to cut `blocks` into, so that every thread has work where there are few tiles.
int64_t Parts(const Layer &l, int64_t tiles, int64_t blocks) {
  const int64_t wanted = l.threads > 1 ? 2 * l.threads : 1;
  return tiles >= wanted ? 1 : std::min(blocks, CeilDiv(wanted, tiles));
}

// Calls work(n, row, first, last) for each image n, each band of `band` rows, of `rows`, from `row` on, and blocks
// [first, last) of `blocks`, in as many parts as the threads need.
template <typename Work>
void ForEachTile(const Layer &l, int64_t rows, int64_t band, int64_t blocks, Work work) {
  const int64_t bands = CeilDiv(rows, band), parts = Parts(l, l.batch * bands, blocks);
  Threads::ForEach(l.threads, l.batch * bands * parts, [&](int64_t item) {
    const int64_t part = item % parts, row = item / parts % bands * band, n = item / parts / bands;
    work(n, row, blocks * part / parts, blocks * (part + 1) / parts);
  });
}

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

// out[f][q] = sum_k max(x[offset_k + q], w[k][f]) - half_x[q] - half_w[f] = sum_k |x - w| / 2, or the sum of products,
// = -sum_k (x - w)^2 / 2, for kFilters filters and n vectors of positions q, `step` floats apart.
template <int norm, int n>
NO_INLINE void ForwardBlock(int64_t taps, const float *x, int64_t step, const int64_t *offsets, const float *w,
                            const Vec *half_x, const float *half_w, Vec (*out)[n]) {
  const Vec one = One();
  Vec sum[kFilters][n];
  UNROLL
  for (int f = 0; f < kFilters; ++f)
    UNROLL
    for (int v = 0; v < n; ++v) sum[f][v] = -half_x[v] - half_w[f];
  for (int64_t k = 0; k < taps; ++k, w += kFilters) {
    Vec xs[n];
    UNROLL
    for (int v = 0; v < n; ++v) xs[v] = Load(x + offsets[k] + v * step);
    UNROLL
    for (int f = 0; f < kFilters; ++f)
      UNROLL
      for (int v = 0; v < n; ++v) sum[f][v] = norm == 1 ? AddMax(sum[f][v], xs[v], w + f, one) : AddProduct(sum[f][v], xs[v], w + f);
  }
  UNROLL
  for (int f = 0; f < kFilters; ++f)
    UNROLL
    for (int v = 0; v < n; ++v) out[f][v] = sum[f][v];
}

// What the sums over x alone, and over w alone, are of.
template <typename T>
inline T Power(T v, int64_t norm) { return norm == 1 ? v : v * v; }

// The filters in blocks, [block, tap, filter of the block], centred, with half the sum of each, or of its squares.
struct Filters {
  int64_t blocks;
  std::vector<float> values, half_sums;

  Filters(const Layer &l, const float *w, const std::vector<float> &centres)
      : blocks(CeilDiv(l.filters, kFilters)), values(blocks * kFilters * l.taps, 0.0f),
        half_sums(blocks * kFilters, 0.0f) {
    for (int64_t f = 0; f < l.filters; ++f) {
      float *to = &values[f / kFilters * l.taps * kFilters + f % kFilters];
      for (int64_t c = 0; c < l.channels; ++c)
        for (int64_t i = 0; i < l.kernel * l.kernel; ++i, ++w, to += kFilters) *to = *w - centres[c];
    }
    for (int64_t b = 0; b < blocks; ++b) {
      double sums[kFilters] = {};
      for (int64_t k = b * l.taps; k < (b + 1) * l.taps; ++k)
        for (int64_t i = 0; i < kFilters; ++i) sums[i] += Power(values[k * kFilters + i], l.norm);
      for (int64_t i = 0; i < kFilters; ++i) half_sums[b * kFilters + i] = static_cast<float>(sums[i] / 2);
    }
  }
};

// What happens to the sums on their way to memory: y = max(floor, scale * sum + shift + residual).
struct Epilogue {
  std::vector<float> scale, shift;  // per filter
  const float *residual = nullptr;  // as y
  float floor = -std::numeric_limits<float>::infinity();

  explicit Epilogue(const Layer &l) : scale(l.filters, l.norm == 1 ? -2.0f : 1.0f), shift(l.filters, 0.0f) {}

  void Apply(Vec sum, int64_t f, int64_t at, int64_t count, float *y) const {
    Vec value = sum * scale[f] + shift[f];
    if (count >= kLanes) {
      if (residual) value += Load(residual + at);
      Store(y + at, Max(Splat(floor), value));
    } else {
      for (int64_t i = 0; i < count; ++i) {
        const float v = residual ? value[i] + residual[at + i] : value[i];
        y[at + i] = v < floor ? floor : v;
      }
    }
  }
};

class Forward {
 public:
  Forward(const Layer &layer, const float *x, const float *w, const Epilogue &epilogue)
      : l(layer), input{x, l.batch * l.channels, l.height, l.width}, e(epilogue), centres(Centres(l, w)),
        filters(l, w, centres),
        band(BandRows(l.out_height, [&](int64_t rows) { return InputTile(l, 0, rows).Size(); })),
        offsets(InputTile(l, 0, band).Offsets(0, l.channels)) {}

  void Run(float *y) const {
    ForEachTile(l, l.out_height, band, filters.blocks, [&](int64_t n, int64_t row, int64_t first, int64_t last) {
      RunTile(n, row, first, last, y);
    });
  }

 private:
  const Layer &l;
  const Planes input;
  const Epilogue &e;
  const std::vector<float> centres;
  const Filters filters;
  const int64_t band;
  const std::vector<int64_t> offsets;

  void RunTile(int64_t n, int64_t row, int64_t first_block, int64_t last_block, float *y) const {
    const InputTile tile(l, row, band);
    float *x = scratch_x.Get(tile.Size()), *sum_of_channels = scratch_sum.Get(tile.ChannelSize());
    PackSum(tile, n, sum_of_channels);
    tile.PackChannels(input, n, centres, 0, l.channels, x);
    const int64_t positions = std::min(band, l.out_height - row) * l.out_width;
    const int64_t at = (n * l.filters * l.out_height + row) * l.out_width;
    for (int64_t q = 0; q < positions; q += kVectors * kLanes) {
      const bool whole = positions - q > kLanes;
      const auto run = l.norm == 1 ? (whole ? &Forward::RunPositions<1, kVectors> : &Forward::RunPositions<1, 1>)
                                   : (whole ? &Forward::RunPositions<2, kVectors> : &Forward::RunPositions<2, 1>);
      const int64_t from = tile.grid.At(q), step = tile.grid.At(q + kLanes) - from;
      (this->*run)(x + from, sum_of_channels + from, step, first_block, last_block, at + q, positions - q, y);
    }
  }

  // The sum of an image's centred channels, or of their squares, packed like one of them.
  void PackSum(const InputTile &tile, int64_t n, float *out) const {
    const float *image = input.Plane(n * l.channels);
    const int64_t plane = l.height * l.width;
    const int64_t first = std::max<int64_t>(0, tile.grid.row) * l.width;
    const int64_t last = std::min(l.height, tile.grid.row + tile.grid.rows * l.stride) * l.width;
    float *sum = scratch_out.Get(plane);
    int64_t i = first;
    for (; i + kLanes <= last; i += kLanes) {
      Vec lanes = {};
      for (int64_t c = 0; c < l.channels; ++c) lanes += Power(Load(image + c * plane + i) - centres[c], l.norm);
      Store(sum + i, lanes);
    }
    for (; i < last; ++i) {
      sum[i] = 0.0f;
      for (int64_t c = 0; c < l.channels; ++c) sum[i] += Power(image[c * plane + i] - centres[c], l.norm);
    }
    float outside = 0.0f;
    for (const float centre : centres) outside += Power(-centre, l.norm);
    tile.PackPlane({sum, 1, l.height, l.width}, 0, 0.0f, outside, out);
  }

  // n vectors of positions, `step` apart in x, of which `count` positions are wanted; `at` is the first one's index in
  // y, for filter 0.
  template <int norm, int n>
  void RunPositions(const float *x, const float *sum_of_channels, int64_t step, int64_t first_block, int64_t last_block,
                    int64_t at, int64_t count, float *y) const {
    Vec half_x[n] = {}, sums[kFilters][n];
    for (int64_t k = 0; k < l.kernel * l.kernel; ++k)
      for (int v = 0; v < n; ++v) half_x[v] += Load(sum_of_channels + offsets[k] + v * step);
    for (int v = 0; v < n; ++v) half_x[v] *= 0.5f;
    for (int64_t f = first_block * kFilters; f < last_block * kFilters; f += kFilters) {
      ForwardBlock<norm>(l.taps, x, step, offsets.data(), &filters.values[f * l.taps], half_x, &filters.half_sums[f],
                         sums);
      for (int64_t i = 0; i < std::min<int64_t>(kFilters, l.filters - f); ++i)
        for (int v = 0; v < n; ++v)
          e.Apply(sums[i][v], f + i, at + (f + i) * l.out_height * l.out_width + v * kLanes, count - v * kLanes, y);
    }
  }
};

// ---- gradient of the input ----

// The function of d = x - w that dy is multiplied by: clip(d, -1, 1), d, or mix * d + (1 - mix) * clip(d, -1, 1).
enum class Rule { kClipped, kLinear, kMixed };

// slope = mix / (1 - mix); what is left out is a factor of the whole sum.
template <Rule rule, bool by_multiply_add>
inline Vec SubtractGradient(Vec sum, Vec g, Vec x, const float *w, Vec one, Vec slope) {
  const Vec d = Difference<by_multiply_add>(x, w, one);
  if (rule == Rule::kLinear) return sum - g * d;
  return sum - g * (rule == Rule::kClipped ? Clip(d, one) : d * slope + Clip(d, one));
}

// dx[c][u] = -sum_k dy[offset_k + u] * rule(x[c][u] - w[k][c]) for kChannels channels and n vectors of inputs u, which
// are `step` floats apart in dy; k runs over filters and over the taps of one phase.
template <Rule rule, int n>
NO_INLINE void InputGradBlock(int64_t taps, const float *dy, int64_t step, const int64_t *offsets, const float *w,
                              const float *x, int64_t pitch, float mix, float *dx) {
  const Vec one = One(), slope = Splat(mix / (1.0f - mix)), scale = Splat(rule == Rule::kMixed ? 1.0f - mix : 1.0f);
  Vec sum[kChannels][n], xs[kChannels][n];
  UNROLL
  for (int c = 0; c < kChannels; ++c)
    UNROLL
    for (int v = 0; v < n; ++v) {
      xs[c][v] = Load(x + c * pitch + v * kLanes);
      sum[c][v] = xs[c][v] - xs[c][v];  // zero, but NaN where x is not finite, which clipping might hide
    }
  for (int64_t k = 0; k < taps; ++k, w += kChannels) {
    Vec g[n];
    UNROLL
    for (int v = 0; v < n; ++v) g[v] = Load(dy + offsets[k] + v * step);
    UNROLL
    for (int c = 0; c < kChannels; c += 2)
      UNROLL
      for (int v = 0; v < n; ++v) {
        sum[c][v] = SubtractGradient<rule, false>(sum[c][v], g[v], xs[c][v], w + c, one, slope);
        sum[c + 1][v] = SubtractGradient<rule, true>(sum[c + 1][v], g[v], xs[c + 1][v], w + c + 1, one, slope);
      }
  }
  UNROLL
  for (int c = 0; c < kChannels; ++c)
    UNROLL
    for (int v = 0; v < n; ++v) Store(dx + c * pitch + v * kLanes, sum[c][v] * scale);
}

// The inputs at rows i, i + stride, ... and columns j, j + stride, ... of the padded image: all are read by the same
// taps.
struct Phase {
  int64_t i, j, row, rows, col, cols;  // the first row and column inside the image, and how many there are
  int64_t row_taps, col_taps;
  std::vector<float> weights;          // [channel block, filter, tap, channel of the block]

  Phase(const Layer &l, const float *w, int64_t i0, int64_t j0)
      : i(i0), j(j0), row(CeilDiv(l.padding - i0, l.stride)), rows(CeilDiv(l.height + l.padding - i0, l.stride) - row),
        col(CeilDiv(l.padding - j0, l.stride)), cols(CeilDiv(l.width + l.padding - j0, l.stride) - col),
        row_taps(std::max<int64_t>(0, CeilDiv(l.kernel - i0, l.stride))),
        col_taps(std::max<int64_t>(0, CeilDiv(l.kernel - j0, l.stride))) {
    weights.reserve(RoundUp(l.channels, kChannels) * l.filters * row_taps * col_taps);
    for (int64_t c0 = 0; c0 < l.channels; c0 += kChannels)
      for (int64_t f = 0; f < l.filters; ++f)
        for (int64_t m = i; m < l.kernel; m += l.stride)
          for (int64_t n = j; n < l.kernel; n += l.stride)
            for (int64_t c = c0; c < c0 + kChannels; ++c)
              weights.push_back(c < l.channels ? w[((f * l.channels + c) * l.kernel + m) * l.kernel + n] : 0.0f);
  }

  // Rows [first, first + count) of the phase, in x and dx.
  Grid Inputs(const Layer &l, int64_t first, int64_t count) const {
    return {(row + first) * l.stride + i - l.padding, col * l.stride + j - l.padding, l.stride, count, cols, 1, 0};
  }
  // The outputs that read them: a copy for each column of the window, shifted backwards.
  Grid Outputs(int64_t first, int64_t count) const {
    return {row + first - (row_taps - 1), col, 1, count + row_taps - 1, cols, col_taps, -1};
  }
  // Where each tap (f, m, n) starts among those, for the first input.
  std::vector<int64_t> Offsets(const Layer &l, const Grid &outputs) const {
    std::vector<int64_t> offsets;
    for (int64_t f = 0; f < l.filters; ++f)
      for (int64_t m = row_taps - 1; m >= 0; --m)
        for (int64_t n = 0; n < col_taps; ++n)
          offsets.push_back(f * outputs.Size() + outputs.Shift(n) + m * outputs.RowPitch());
    return offsets;
  }
};

class InputGrad {
 public:
  InputGrad(const Layer &layer, const float *dy, const float *x, const float *w, float mix_)
      : l(layer), mix(mix_), inputs{x, l.batch * l.channels, l.height, l.width},
        outputs{dy, l.batch * l.filters, l.out_height, l.out_width}, blocks(CeilDiv(l.channels, kChannels)) {
    for (int64_t i = 0; i < l.stride; ++i)
      for (int64_t j = 0; j < l.stride; ++j) phases.emplace_back(l, w, i, j);
    const Phase &p = phases[0];  // the one with most taps
    rows = CeilDiv(l.height, l.stride) + 1;
    band = BandRows(rows, [&](int64_t n) {
      return l.filters * p.Outputs(0, n).Size() + 2 * l.channels * p.Inputs(l, 0, n).Size();
    });
  }

  void Run(float *dx) const {
    const auto run = mix == 0.0f   ? &InputGrad::RunTile<Rule::kClipped>
                     : mix == 1.0f ? &InputGrad::RunTile<Rule::kLinear>
                                   : &InputGrad::RunTile<Rule::kMixed>;
    ForEachTile(l, rows, band, blocks, [&](int64_t n, int64_t row, int64_t first, int64_t last) {
      for (const Phase &p : phases)
        if (row < p.rows) (this->*run)(p, n, row, first, last, dx);
    });
  }

 private:
  const Layer &l;
  const float mix;
  const Planes inputs, outputs;
  const int64_t blocks;
  std::vector<Phase> phases;
  int64_t rows, band;  // the most rows of a phase, and those of them in a tile

  template <Rule rule>
  void RunTile(const Phase &p, int64_t n, int64_t row, int64_t first_block, int64_t last_block, float *dx) const {
    const int64_t count = std::min(band, p.rows - row), positions = count * p.cols;
    const Grid in = p.Inputs(l, row, count), out = p.Outputs(row, count);
    const int64_t first = first_block * kChannels, last = std::min(l.channels, last_block * kChannels);
    const int64_t pitch = in.Pitch(), size = (last_block - first_block) * kChannels * pitch;
    float *x = scratch_x.Get(size), *sums = scratch_out.Get(size), *dy = scratch_dy.Get(l.filters * out.Size());
    for (int64_t c = first; c < last; ++c) Pack(inputs, n * l.channels + c, in, 0.0f, 0.0f, x + (c - first) * pitch);
    const std::vector<int64_t> offsets = p.Offsets(l, out);
    const int64_t taps = offsets.size();  // none, where no window looks
    for (int64_t f = 0; taps && f < l.filters; ++f)
      Pack(outputs, n * l.filters + f, out, 0.0f, 0.0f, dy + f * out.Size());
    for (int64_t u = 0; u < positions; u += kVectors * kLanes) {
      const auto block = positions - u > kLanes ? InputGradBlock<rule, kVectors> : InputGradBlock<rule, 1>;
      const int64_t from = out.At(u), step = out.At(u + kLanes) - from;
      for (int64_t c = first; c < last; c += kChannels)
        block(taps, dy + from, step, offsets.data(), &p.weights[c * taps], x + (c - first) * pitch + u, pitch, mix,
              sums + (c - first) * pitch + u);
    }
    for (int64_t c = first; c < last; ++c)
      Unpack(sums + (c - first) * pitch, in, l.width, dx + (n * l.channels + c) * l.height * l.width);
  }
};

// ---- gradient of the filters ----

// Where dy and x of one plane lie for the weight gradient: `lines` lines of `length` positions, whole vectors.
struct Lines {
  int64_t lines, length, dy_pitch, x_pitch;
};

// Of dy[f][q] for each (f, k): the sum of its products with x[offset_k + q], or its sum where that exceeds w[f][k].
enum class Sum { kOfProducts, kWhereGreater };

// out[f][k] += the sum over all q, for kRows filters and kTaps taps: long dot products, over several images.
template <Sum kind>
NO_INLINE void WeightGradBlock(int64_t images, const Lines &p, const float *dy, int64_t dy_image, int64_t dy_plane,
                               const float *x, int64_t x_image, const int64_t *offsets, const float *w, int64_t w_pitch,
                               float *out, int64_t columns) {
  Vec sum[kRows][kTaps] = {};
  for (int64_t n = 0; n < images; ++n)
    for (int64_t line = 0; line < p.lines; ++line) {
      const float *dys = dy + n * dy_image + line * p.dy_pitch, *xs = x + n * x_image + line * p.x_pitch;
      for (int64_t q = 0; q < p.length; q += kLanes) {
        Vec g[kRows];
        UNROLL
        for (int f = 0; f < kRows; ++f) g[f] = Load(dys + f * dy_plane + q);
        UNROLL
        for (int k = 0; k < kTaps; ++k) {
          const Vec v = InRegister(Load(xs + offsets[k] + q));
          UNROLL
          for (int f = 0; f < kRows; ++f)
            sum[f][k] = kind == Sum::kOfProducts ? sum[f][k] + g[f] * v
                                                 : AddWhereGreater(sum[f][k], g[f], v, w + f * w_pitch + k);
        }
      }
    }
  UNROLL
  for (int f = 0; f < kRows; ++f)
    UNROLL
    for (int k = 0; k < kTaps; ++k) out[f * columns + k] += Reduce(sum[f][k]);
}

// dw = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)), x and w centred. It is made of sum dy * (x - w) =
// (sum dy * x) - w * (sum dy), and of sum dy * sign(x - w) = 2 * (sum of dy where x > w) - (sum dy). Each group of tiles
// has sums of its own, added up in order at the end.
class WeightGrad {
 public:
  WeightGrad(const Layer &layer, const float *dy, const float *x, const float *weights, float mix_)
      : l(layer), mix(mix_), inputs{x, l.batch * l.channels, l.height, l.width},
        outputs{dy, l.batch * l.filters, l.out_height, l.out_width}, window(l.kernel * l.kernel),
        filters(RoundUp(l.filters, kRows)), centres(Centres(l, weights)), w_pitch(RoundUp(l.taps, kTaps) + kTaps),
        w(filters * w_pitch, 0.0f),
        rows(BandRows(l.out_height, [&](int64_t n) { return TileSize(n); })), bands(CeilDiv(l.out_height, rows)),
        images(std::max<int64_t>(
            1, std::min({l.batch, kDotLength / (rows * l.out_width), kTileSize / TileSize(rows)}))),
        tiles(CeilDiv(l.batch, images) * bands),
        groups(std::min({tiles, kGroups, std::max<int64_t>(1, kGroupsSize / (filters * l.taps))})),
        parts(Parts(l, groups, l.channels)) {
    for (int64_t f = 0; f < l.filters; ++f)
      for (int64_t k = 0; k < l.taps; ++k) w[f * w_pitch + k] = weights[f * l.taps + k] - centres[k / window];
  }

  void Run(float *dw) const {
    std::vector<std::vector<float>> products(groups * parts), greater(groups * parts);
    std::vector<double> sums(groups * l.filters, 0.0);
    Threads::ForEach(l.threads, groups * parts, [&](int64_t item) {
      const int64_t part = item % parts, group = item / parts;
      products[item].assign(filters * Columns(part), 0.0f);
      greater[item].assign(filters * Columns(part), 0.0f);
      for (int64_t tile = group; tile < tiles; tile += groups)
        RunTile(tile, part, products[item].data(), greater[item].data(), part ? nullptr : &sums[group * l.filters]);
    });
    Threads::ForEach(l.threads, l.filters, [&](int64_t f) {
      double sum = 0.0;
      for (int64_t group = 0; group < groups; ++group) sum += sums[group * l.filters + f];
      for (int64_t part = 0; part < parts; ++part)
        for (int64_t k = 0, tap = FirstChannel(part) * window; tap < FirstChannel(part + 1) * window; ++k, ++tap) {
          double linear = -w[f * w_pitch + tap] * sum, sign = -sum;
          for (int64_t group = 0; group < groups; ++group) {
            linear += products[group * parts + part][f * Columns(part) + k];
            sign += 2.0 * greater[group * parts + part][f * Columns(part) + k];
          }
          dw[f * l.taps + tap] = static_cast<float>(mix * linear + (1.0 - mix) * sign);
        }
    });
  }

 private:
  const Layer &l;
  const double mix;
  const Planes inputs, outputs;
  const int64_t window, filters;             // taps of a channel; filters in whole blocks
  const std::vector<float> centres;
  const int64_t w_pitch;
  std::vector<float> w;                      // centred, `w_pitch` floats for a filter
  const int64_t rows, bands, images, tiles;  // a tile is `rows` rows of `images` images
  const int64_t groups, parts;               // of tiles; of channels

  Grid Outputs(int64_t row, int64_t n) const { return {row, 0, 1, n, l.out_width, 1, 0}; }
  int64_t TileSize(int64_t n) const { return InputTile(l, 0, n).Size() + filters * Outputs(0, n).Size(); }
  int64_t FirstChannel(int64_t part) const { return l.channels * part / parts; }
  int64_t Columns(int64_t part) const {
    return RoundUp((FirstChannel(part + 1) - FirstChannel(part)) * window, kTaps);
  }

  void RunTile(int64_t index, int64_t part, float *product, float *greater, double *sum) const {
    const int64_t row = index % bands * rows, first = index / bands * images, count = std::min(images, l.batch - first);
    const int64_t columns = Columns(part), length = RoundUp(rows * l.out_width, kLanes);
    const InputTile tile(l, row, rows);
    const Grid grid = Outputs(row, rows);
    const int64_t pitch = grid.Pitch(), dy_image = filters * pitch;
    const Lines lines = tile.grid.Joint() ? Lines{rows, l.out_width, l.out_width, tile.grid.RowPitch()}
                                          : Lines{1, length, 0, 0};
    float *x = scratch_x.Get(count * tile.Size()), *dy = scratch_dy.Get(count * dy_image);
    for (int64_t n = 0; n < count; ++n) {
      tile.PackChannels(inputs, first + n, centres, FirstChannel(part), FirstChannel(part + 1), x + n * tile.Size());
      for (int64_t f = 0; f < l.filters; ++f)
        Pack(outputs, (first + n) * l.filters + f, grid, 0.0f, 0.0f, dy + n * dy_image + f * pitch);
      std::fill(dy + n * dy_image + l.filters * pitch, dy + (n + 1) * dy_image, 0.0f);
    }
    std::vector<int64_t> offsets = tile.Offsets(FirstChannel(part), FirstChannel(part + 1));
    offsets.resize(columns, offsets[0]);
    const auto run = [&](auto block, float *out) {
      for (int64_t k = 0; k < columns; k += kTaps)
        for (int64_t f = 0; f < filters; f += kRows)
          block(count, lines, dy + f * pitch, dy_image, pitch, x, tile.Size(), &offsets[k],
                &w[f * w_pitch + FirstChannel(part) * window + k], w_pitch, out + f * columns + k, columns);
    };
    if (mix != 0.0) run(WeightGradBlock<Sum::kOfProducts>, product);
    if (mix != 1.0) run(WeightGradBlock<Sum::kWhereGreater>, greater);
    for (int64_t f = 0; sum && f < l.filters; ++f)
      for (int64_t n = 0; n < count; ++n) {
        Vec lanes = {};
        for (int64_t q = 0; q < length; q += kLanes) lanes += Load(dy + n * dy_image + f * pitch + q);
        sum[f] += Reduce(lanes);
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

// Inputs dy [N, F, H', W'], x, w, mix [2], geometry; output dx [N, C, H, W] = sum dy * (m * (w - x) +
// (1 - m) * clip(w - x, -1, 1)), where m = mix[0].
int AdderInputGrad(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[1], shapes[2], In<int32_t>(params, 4));
    InputGrad(l, In(params, 0), In(params, 1), In(params, 2), In(params, 3)[0]).Run(Out(params, 5));
  });
}

// Inputs dy, x, w, mix, geometry; output dw [F, C, k, k] = sum dy * (m * (x - w) + (1 - m) * sign(x - w)), where
// m = mix[1], before any adaptive rate.
int AdderWeightGrad(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[1], shapes[2], In<int32_t>(params, 4));
    WeightGrad(l, In(params, 0), In(params, 1), In(params, 2), In(params, 3)[1]).Run(Out(params, 5));
  });
}

}  // extern "C"
