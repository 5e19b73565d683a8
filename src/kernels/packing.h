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
// How images are laid out for the inner loops of an adder layer.
//
// Every inner loop is an outer product. Of a pair (x, w), or (dy, x), one operand lies along the lanes of a vector, for
// kLanes channels or filters, and the other is read from memory value by value and broadcast, which costs nothing. The
// sums, a register block, stay in registers. The forward pass with AVX-512, where a column is a vector:
//
//                  x[u]   x[u + 1]  ...  x[u + 15]     16 positions, read one by one
//     w[f]        sum_0    sum_1    ...   sum_15
//     w[f + 1]    sum_0    sum_1    ...   sum_15       registers: 16 sums, w, one and the maxima on their way, of 32;
//     ...                                              with AVX2 8 sums, w, one and the maxima on their way, of 16
//     w[f + 15]   sum_0    sum_1    ...   sum_15
//
// So no patches are copied, save for the weight gradient of few channels, and kernel, stride and width of the image are
// distances between pointers. Two layouts serve all passes:
// - a band: some rows of a plane with what lies outside it, for values to be broadcast;
// - lanes: the channels of a position side by side, by transposing.
#ifndef ADDERNGD_PACKING_H_
#define ADDERNGD_PACKING_H_

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "layer.h"
#include "simd.h"
#include "threads.h"

inline int64_t CeilDiv(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Floats in a tile that stays in the second-level cache, five eighths of it: what is read and written beside it needs
// the rest.
inline int64_t TileSize() {
  int64_t bytes = 0;
#if defined(_SC_LEVEL2_CACHE_SIZE)
  bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
  if (bytes <= 0) bytes = 512 << 10;  // unknown, as often in virtual machines and on Arm
  return bytes / 8 * 5 / static_cast<int64_t>(sizeof(float));
}

const int64_t kTileSize = TileSize();
constexpr int64_t kCacheLine = 16;  // in floats
constexpr int kRun = 4;             // positions side by side in memory, of which a register block has some runs
constexpr float kZeros[16] = {};

// Memory of a thread, kept from call to call.
class Scratch {
 public:
  // At least `size` floats on a cache line, of any value.
  float *Get(int64_t size) {
    if (static_cast<int64_t>(memory_.size()) < size + kCacheLine) memory_.assign(size + kCacheLine, 0.0f);
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (RoundUp(address, 4 * kCacheLine) - address) / sizeof(float);
  }

 private:
  std::vector<float> memory_;
};

inline thread_local Scratch scratch_x, scratch_dy, scratch_sum, scratch_out;

// Whether some weights are far larger than all others, or not finite.
inline bool SomeAreOdd(const float *w, int64_t count) {
  Vec sums = {}, largest = {};
  for (int64_t i = 0; i < count; i += kLanes) {
    const Vec size = Abs(LoadFirst(w + i, count - i));
    sums += size;
    largest = Max(size, largest);
  }
  float most = 0.0f, sum = 0.0f;
  for (int i = 0; i < kLanes; ++i) most = std::max(most, largest[i]), sum += sums[i];
  return !std::isfinite(sum) || most * count > 100.0f * sum;
}

// A constant per channel, the mean weight there. Less it, x and w differ as before, and their sums stay accurate where
// both lie far from zero. Odd filters would move the mean, and cost all others their accuracy: then it is that of the
// middle half of the filters.
inline std::vector<float> Centres(const Layer &layer, const float *w) {
  const int64_t window = layer.kernel * layer.kernel;
  std::vector<float> by_tap(layer.taps, 0.0f), centres(layer.channels, 0.0f), means;
  if (!SomeAreOdd(w, layer.filters * layer.taps)) {
    for (int64_t f = 0; f < layer.filters; ++f)
      for (int64_t k = 0; k < layer.taps; ++k) by_tap[k] += w[f * layer.taps + k];
    for (int64_t k = 0; k < layer.taps; ++k) centres[k / window] += by_tap[k] / (layer.filters * window);
    return centres;
  }
  for (int64_t c = 0; c < layer.channels; ++c, means.clear()) {
    for (int64_t f = 0; f < layer.filters; ++f) {
      float sum = 0.0f;
      for (int64_t k = 0; k < window; ++k) sum += w[f * layer.taps + c * window + k];
      if (std::isfinite(sum)) means.push_back(sum / window);
    }
    std::sort(means.begin(), means.end());
    const int64_t tail = means.size() / 4, middle = means.size() - 2 * tail;
    for (int64_t i = tail; i < tail + middle; ++i) centres[c] += means[i] / middle;
  }
  return centres;
}

// A vector of p[0], p[step], p[2 * step], ..., of which the first n are there; kStep is `step`, or 0 for any.
template <int kStep>
inline Vec LoadStrided(const float *p, int64_t step, int64_t n) {
  if (kStep == 1) return LoadFirst(p, n);
  if (kStep == 2) return EvenLanes(LoadFirst(p, 2 * n - 1), LoadFirst(p + kLanes, 2 * n - 1 - kLanes));
  Vec v = {};
  for (int64_t i = 0; i < std::min<int64_t>(n, kLanes); ++i) v[i] = p[i * step];
  return v;
}

// A plane of floats, less `centre`: what a band may be packed from, see there.
struct Plane {
  const float *values;
  float centre;

  // A vector of the values from place `at` on, `step` apart, of which the first n are there.
  template <int kStep>
  Vec Values(int64_t at, int64_t step, int64_t n) const { return LoadStrided<kStep>(values + at, step, n) - centre; }
  void Prefetch(int64_t at) const { __builtin_prefetch(values + at); }
};

// n values, and what more fits the last vector.
inline void Fill(float *out, int64_t n, float value) {
  for (int64_t i = 0; i < n; i += kLanes) Store(out + i, Splat(value));
}

// Rows and columns of a plane from (row, col) on, maybe outside it. Columns are dealt out to `step` parts of `cols`
// each, so that what is `step` apart in the image lies side by side: [row, part, column of the part]. Only the first
// `parts` parts, and rows, of each `step` are wanted.
//
// Step 2, from column -1 of 8 on, for 4 windows of 3; o is outside:
//
//     plane      o  0  1  2  3  4  5  6  7         window 0 is o 0 1, window 1 is 1 2 3, ...
//     part 0     o     1     3     5     7         the first values of all windows, and one further the third ones
//     part 1        0     2     4     6     o      the second ones
//     band       o 1 3 5 7 | 0 2 4 6 o             cols = 5, parts = 2
struct Band {
  int64_t row, col, rows, cols, step, parts;

  int64_t RowPitch() const { return parts * cols; }
  // With room for one vector more, and an odd number of cache lines, so that the planes of a tile do not compete for
  // the same places in the cache.
  int64_t Pitch() const { return (CeilDiv(rows * RowPitch() + kLanes, kCacheLine) | 1) * kCacheLine; }
  // Where row i and column j lie, counted from the first; the column's neighbours are `step` columns away.
  int64_t At(int64_t i, int64_t j) const { return i * RowPitch() + j % step * cols + j / step; }

  // Packs a plane, or whatever gives a vector of values by place, with `outside` where there is none. Whole vectors are
  // written: what is too much is overwritten by what follows.
  template <typename Source>
  void Pack(const Source &plane, int64_t height, int64_t width, float outside, float *out) const {
    if (step == 1) PackRows<1>(plane, height, width, outside, out);
    else if (step == 2) PackRows<2>(plane, height, width, outside, out);
    else PackRows<0>(plane, height, width, outside, out);
  }

 private:
  template <int kStep, typename Source>
  void PackRows(const Source &plane, int64_t height, int64_t width, float outside, float *out) const {
    const int64_t apart = kStep ? kStep : step, wanted = kStep == 1 ? 1 : parts;
    for (int64_t i = 0; i < rows; ++i, out += RowPitch()) {
      if (i % apart >= wanted) continue;
      const int64_t from = (row + i) * width;
      for (int64_t j = 0; j < width; j += kCacheLine) plane.Prefetch(from + height * width + j);  // next plane
      if (row + i < 0 || row + i >= height) {
        Fill(out, RowPitch(), outside);
        continue;
      }
      float *part = out;
      for (int64_t first = col; first < col + wanted; ++first, part += cols) {
        const int64_t before = first < 0 ? std::min(cols, CeilDiv(-first, apart)) : 0;
        const int64_t end = std::max(before, std::min(cols, CeilDiv(width - first, apart)));
        Fill(part, before, outside);
        for (int64_t j = before; j < end; j += kLanes)
          Store(part + j, plane.template Values<kStep>(from + first + j * apart, apart, end - j));
        Fill(part + end, cols - end, outside);
      }
    }
  }
};

// What `rows` rows of an output of `columns` columns read, from row `row` on.
inline Band InputsOf(const Layer &layer, int64_t row, int64_t rows, int64_t columns) {
  return {row * layer.stride - layer.padding, -layer.padding, (rows - 1) * layer.stride + layer.kernel,
          columns + (layer.kernel - 1) / layer.stride, layer.stride, std::min(layer.kernel, layer.stride)};
}

// Values [0, count) of up to kLanes planes, which start at plane(i), side by side: out[position][lane], positions
// `pitch` floats apart. Lanes without a plane are 0. Whole vectors are written, also behind the last position.
template <typename Plane>
inline void PlanesToLanes(Plane plane, int64_t planes, int64_t count, const float *centres, float *out, int64_t pitch) {
  for (int64_t q = 0; q < count; q += kLanes) {
    Vec v[kLanes];
    UNROLL
    for (int i = 0; i < kLanes; ++i) v[i] = i < planes ? LoadFirst(plane(i) + q, count - q) - centres[i] : Vec{};
    Transpose(v);
    UNROLL
    for (int i = 0; i < kLanes; ++i) Store(out + (q + i) * pitch, v[i]);
  }
}

// The same of planes that are `plane` floats apart.
inline void ToLanes(const float *in, int64_t plane, int64_t planes, int64_t count, const float *centres, float *out,
                    int64_t pitch) {
  PlanesToLanes([=](int i) { return in + i * plane; }, planes, count, centres, out, pitch);
}

// The reverse, from positions that lie densely.
inline void FromLanes(const float *in, int64_t plane, int64_t planes, int64_t count, float *out) {
  for (int64_t q = 0; q < count; q += kLanes) {
    Vec v[kLanes];
    UNROLL
    for (int i = 0; i < kLanes; ++i) v[i] = Load(in + (q + i) * kLanes);
    Transpose(v);
    UNROLL
    for (int i = 0; i < kLanes; ++i)
      if (i < planes) StoreFirst(out + i * plane + q, v[i], count - q);
  }
}

// The most rows, of `rows`, that fit a tile and leave every thread something to do, in bands as even as can be; size(n)
// is the size of a tile of n rows.
template <typename Size>
int64_t BandRows(const Layer &layer, int64_t rows, Size size) {
  const int64_t shared = CeilDiv(rows, layer.threads > 1 ? CeilDiv(2 * layer.threads, layer.batch) : 1);
  for (int64_t bands = 1; bands < rows; ++bands)
    if (size(CeilDiv(rows, bands)) <= kTileSize) return std::min(shared, CeilDiv(rows, bands));
  return 1;
}

// Calls work(n, row) for each image n and the first of each `band` rows, of `rows`.
template <typename Work>
void ForEachBand(const Layer &layer, int64_t rows, int64_t band, Work work) {
  const int64_t bands = CeilDiv(rows, band);
  Threads::ForEach(layer.threads, layer.batch * bands, [&](int64_t item) { work(item / bands, item % bands * band); });
}

#endif  // ADDERNGD_PACKING_H_
