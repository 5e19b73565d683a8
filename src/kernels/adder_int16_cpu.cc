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
// Forward pass of an adder layer on CPU in fixed point of 16 bits, with all that stands behind it in an evaluation.
//
// x is rounded to a grid of 32,765 values that spans those of an image, and w likewise; a weight outside goes to the
// end of the grid, and what it is beyond counts in full, whatever x is (as in arXiv 2212.10200). Then sum |x - w| =
// sum (max(x, w) - x) + sum (max(x, w) - w) holds exactly, and a vector has twice as many integers as floats.
//
// A word is two channels of a position. The maxima of two words, of 15 bits each, are added in 16 bits; the pairs of that
// sum go to sums of 32 bits. Per vector of words that is a maximum and half of an addition and of a widening one, where
// floats take a maximum and a multiply-add for half as many pairs.
//
// Each difference is off by at most a step of the grid, which depends on nothing but the image.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "abi.h"
#include "fixed_point.h"
#include "forward.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"
#include "stage.h"

namespace {

constexpr int64_t kWords = 2;              // whose maxima are added before they are widened
constexpr float kTop = 16382.0f;           // the largest integer: two fit 16 bits, even if rounding adds 1 to each
using ShortSums = uint16_t __attribute__((vector_size(4 * kLanes)));

inline Shorts Larger(Shorts a, Shorts b) {
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
  return reinterpret_cast<Shorts>(_mm512_max_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
  return reinterpret_cast<Shorts>(_mm256_max_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#else
  return a > b ? a : b;
#endif
}

inline Shorts Add(Shorts a, Shorts b) {
  return reinterpret_cast<Shorts>(reinterpret_cast<ShortSums>(a) + reinterpret_cast<ShortSums>(b));
}

// See `Block`; the sums are integers, of which floats are made at the end. Behind sum_w is what w is beyond the grid.
NO_INLINE void FixedBlock(int64_t taps, const float *x, const int64_t *runs, const int64_t *offsets, const float *w,
                          const float *sum_x, const float *sum_w, float *out, int64_t pitch) {
  const float *xs[kRuns];
  UNROLL
  for (int r = 0; r < kRuns; ++r) xs[r] = x + runs[r];
  Sums sum[kRuns * kRun] = {};
  for (int64_t k = 0; k < taps; k += kWords, w += kWords * kLanes) {
    const Shorts first = LoadAs<Shorts>(w), second = LoadAs<Shorts>(w + kLanes);
    UNROLL
    for (int u = 0; u < kRuns * kRun; ++u) {
      const float *from = xs[u / kRun] + u % kRun;
      sum[u] = AddPairs(sum[u], Add(Larger(SplatWord(from + offsets[k]), first),
                                    Larger(SplatWord(from + offsets[k + 1]), second)));
    }
  }
  const Sums of_w = LoadAs<Sums>(sum_w);
  const Vec beyond = Load(sum_w + kLanes);
  Vec distances[kRuns * kRun];
  UNROLL
  for (int u = 0; u < kRuns * kRun; ++u) {
    const Sums of_x = LoadAs<uint32_t>(sum_x + u) - Sums{};
    distances[u] = ToFloat(reinterpret_cast<Ints>((sum[u] - of_x) + (sum[u] - of_w))) + beyond;
  }
  StoreBlock(distances, out, pitch);
}

// From floats to integers: `low` becomes -kTop, and what is 1 / factor more is 1 more.
struct Scale {
  float low, factor;
  float top;  // the largest integer less the smallest, the same for all images of a layer

  float High() const { return low + top / factor; }

  // Words of the integers of a and b.
  Vec Words(Vec a, Vec b) const {
    const Vec zero = Splat(kRounding - kTop);
    return reinterpret_cast<Vec>(::Words((a - low) * factor + zero, (b - low) * factor + zero));
  }
  bool operator<(const Scale &other) const {
    return std::tie(low, factor) < std::tie(other.low, other.factor);
  }
};

// One of few scales, so that filters need not be made anew for each image, of a grid that spans some values and zero.
// Its factor is NaN if one of them is not finite. A step is no smaller than `least`.
Scale ScaleOf(const Range &range, float top, float least) {
  // The least power of 2^(1/4) that is no less than v.
  const auto power = [&](float v) { return std::exp2(std::ceil(std::log2(std::max(v, least)) * 4.0f) / 4.0f); };
  if (!range.finite) return {0.0f, std::numeric_limits<float>::quiet_NaN(), top};
  const float low = range.low < 0.0f ? -power(-range.low) : 0.0f;
  return {low, 1.0f / power((range.high - low) / top), top};
}

// Two planes as words; without a second one its half is zero, and without a first one all is.
struct PlanePair {
  const float *first, *second;
  Scale scale;

  template <int kStep>
  Vec Values(int64_t at, int64_t step, int64_t n) const {
    return scale.Words(first ? LoadStrided<kStep>(first + at, step, n) : Vec{},
                       second ? LoadStrided<kStep>(second + at, step, n) : Vec{});
  }
  void Prefetch(int64_t at) const {
    if (first) __builtin_prefetch(first + at);
    if (second) __builtin_prefetch(second + at);
  }
};

// A layer whose channels are words, an even number of them.
Layer InWords(Layer layer) {
  layer.channels = kWords * CeilDiv(layer.channels, 2 * kWords);
  layer.taps = layer.channels * layer.kernel * layer.kernel;
  return layer;
}

// Filters in words, for one scale: [vector of filters, tap, lane]; their sums and, in steps, what they are beyond its
// grid: [vector of filters, 2, lane].
struct FixedFilters {
  std::vector<float> words, sums;

  // Of filters in floats, [vector of filters, tap, lane], with zeros for what a word has too much.
  FixedFilters(const Layer &layer, const std::vector<float> &filters, const Scale &scale)
      : words(RoundUp(layer.filters, kLanes) * layer.taps), sums(2 * RoundUp(layer.filters, kLanes)) {
    const int64_t window = layer.kernel * layer.kernel;
    const float *tap = filters.data();
    const auto on_grid = [low = Splat(scale.low), high = Splat(scale.High())](Vec v) { return Min(Max(v, low), high); };
    for (int64_t f = 0; f < layer.filters; f += kLanes) {
      Sums sum = {};
      double beyond[kLanes] = {};
      float *word = &words[f * layer.taps];
      for (int64_t c = 0; c < layer.channels; ++c, tap += window * kLanes)
        for (int64_t k = 0; k < window; ++k, tap += kLanes, word += kLanes) {
          const Vec a = Load(tap), b = Load(tap + window * kLanes), on_a = on_grid(a), on_b = on_grid(b);
          Store(word, scale.Words(on_a, on_b));
          sum = AddPairs(sum, LoadAs<Shorts>(word));
          const Vec more = Abs(a - on_a) + Abs(b - on_b);
          for (int i = 0; i < kLanes; ++i) beyond[i] += more[i];
        }
      StoreAs(&sums[2 * f], sum);
      for (int i = 0; i < kLanes; ++i) sums[2 * f + kLanes + i] = static_cast<float>(beyond[i] * scale.factor);
    }
  }
};

// Numbers of forward.h: words of two integers of 15 bits.
class Fixed {
 public:
  using Sum = Sums;
  static constexpr int kSums = 2;
  struct Image { const float *filters, *filter_sums; float unit; Scale scale; };

  const Layer layer;

  Fixed(const Layer &of, const float *w)
      : layer(InWords(of)), channels_(of.channels),
        filters_(RoundUp(of.filters, kLanes) * 2 * layer.taps + kLanes * kLanes) {
    for (int64_t f = 0; f < of.filters; f += kLanes)
      ToLanes(w + f * of.taps, of.taps, of.filters - f, of.taps, kZeros, &filters_[f * 2 * layer.taps], kLanes);
    // What ToLanes wrote behind the last tap.
    for (int64_t f = 0; f < of.filters; f += kLanes)
      std::fill_n(&filters_[f * 2 * layer.taps + of.taps * kLanes], (2 * layer.taps - of.taps) * kLanes, 0.0f);
    for (int64_t f = 0; f < of.filters; ++f) {
      double size = 0.0;
      for (int64_t k = 0; k < of.taps; ++k) size += std::abs(w[f * of.taps + k]);
      if (std::isfinite(size)) least_ = std::max(least_, static_cast<float>(1e-37 * size));
    }
  }

  Image Of(const float *x) {
    const float top = std::min(2 * kTop, std::floor(0x1p31f * 0.999f / (2 * layer.taps + 1)));
    const Scale scale = ScaleOf(RangeOf(x, channels_ * layer.height * layer.width), top, least_);
    const FixedFilters &filters = FiltersOf(scale);
    return {filters.words.data(), filters.sums.data(), -1.0f / scale.factor, scale};
  }

  void Pack(const Image &image, const float *x, int64_t c, const Band &band, float *out) const {
    const auto plane = [&](int64_t channel) {
      return channel < channels_ ? x + channel * layer.height * layer.width : nullptr;
    };
    const float zeros = image.scale.Words(Vec{}, Vec{})[0];
    band.Pack(PlanePair{plane(2 * c), plane(2 * c + 1), image.scale}, layer.height, layer.width, zeros, out);
  }
  Sum Add(Sum sum, const float *word) const { return AddPairs(sum, LoadAs<Shorts>(word)); }
  static Block *Loop(int64_t) { return FixedBlock; }

 private:
  const int64_t channels_;  // of a group, in floats
  float least_ = 1e-33f;    // step of a grid, of which floats can count what a filter is
  std::vector<float> filters_;  // [vector of filters, tap, lane], in whole words
  std::map<Scale, FixedFilters> by_scale_;
  std::mutex mutex_;

  const FixedFilters &FiltersOf(Scale scale) {
    if (std::isnan(scale.factor)) scale.factor = 0.0f;
    const std::lock_guard<std::mutex> lock(mutex_);
    return by_scale_.try_emplace(scale, layer, filters_, scale).first->second;
  }
};

}  // namespace

// Inputs and outputs are those of the functions in floats, of norm 1. An image with a value that is not finite gives NaN.
extern "C" {

int AdderForwardInt16(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunForward<Fixed>({count, data, ranks, shapes, types});
}

int AdderFoldedInt16(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunFolded<Fixed>({count, data, ranks, shapes, types});
}

int AdderStageInt16(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunStage<Fixed>({count, data, ranks, shapes, types});
}

}  // extern "C"
