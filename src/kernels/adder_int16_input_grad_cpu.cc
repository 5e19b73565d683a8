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
// Gradient of an adder layer's input on CPU in fixed point of 16 bits, see input_grad.h: dx = sum dy * clip(w - x, -1, 1).
//
// A word is two filters. x and w are rounded to a grid in which 1 is a power of two D, at most 8,192, so that all values
// of x in an image, and all w that are not further than 1 from them, are integers of 16 bits without a sign; a w
// outside is moved to the end of the grid, which changes no clipped difference. With one of both shifted by D, a
// difference that saturates at 0 is clipped from below, and its minimum with 2 D from above: clip(x - w, -1, 1) * D + D.
// The multiply-add of pairs takes it times dy; D times the sum of dy alone is subtracted at the end. That is three
// instructions for two pairs (x, w) a lane, where floats take three for one.
//
// dy is rounded to integers of 16 bits, of a step that is that of an image, as small as its largest value and the
// largest sum of |dy| over the taps of an input allow: no sum overflows. Each product is off by at most half a step of x
// and of w, times dy, and half a step of dy.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "abi.h"
#include "depthwise.h"
#include "fixed_point.h"
#include "input_grad.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"

namespace {

constexpr float kTop = 65535.0f;   // the largest integer of x and w
constexpr int64_t kFinest = 8192;  // the largest D: 2 D times two values of dy fits 32 bits
constexpr double kLargest = 32766.0;  // of dy

// min(a - b, most), and at least 0, of integers without a sign.
inline Shorts Clipped(Shorts a, Shorts b, Shorts most) {
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
  const __m512i d = _mm512_subs_epu16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b));
  return reinterpret_cast<Shorts>(_mm512_min_epu16(d, reinterpret_cast<__m512i>(most)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i d = _mm256_subs_epu16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b));
  return reinterpret_cast<Shorts>(_mm256_min_epu16(d, reinterpret_cast<__m256i>(most)));
#elif defined(__aarch64__)
  const uint16x8_t d = vqsubq_u16(reinterpret_cast<uint16x8_t>(a), reinterpret_cast<uint16x8_t>(b));
  return reinterpret_cast<Shorts>(vminq_u16(d, reinterpret_cast<uint16x8_t>(most)));
#else
  using Unsigned = uint16_t __attribute__((vector_size(4 * kLanes)));
  const Unsigned x = reinterpret_cast<Unsigned>(a), w = reinterpret_cast<Unsigned>(b);
  const Unsigned d = x > w ? x - w : Unsigned{}, top = reinterpret_cast<Unsigned>(most);
  return reinterpret_cast<Shorts>(d < top ? d : top);
#endif
}

// See `InputGradBlock`. Behind the last w lies D.
NO_INLINE void FixedBlock(int64_t taps, const InputRuns &runs, const int64_t *offsets, const float *w, const float *x,
                          int64_t step, float *dx) {
  const int32_t one = LoadAs<int32_t>(w + taps * kLanes);
  const Shorts most = Shorts{} + static_cast<int16_t>(2 * one);
  const float *dy[kInputRuns];
  UNROLL
  for (int r = 0; r < kInputRuns; ++r) dy[r] = runs.dy[r];
  Shorts xs[kInputs];
  Sums sum[kInputs];
  UNROLL
  for (int u = 0; u < kInputs; ++u) {
    xs[u] = LoadAs<Shorts>(x + runs.at[u / kRun] + u % kRun * step);
    sum[u] = Sums{} - LoadAs<uint32_t>(runs.sum_dy[u / kRun] + u % kRun) * static_cast<uint32_t>(one);
  }
  for (int64_t k = 0; k < taps; ++k, w += kLanes) {
    const Shorts ws = LoadAs<Shorts>(w);
    UNROLL
    for (int u = 0; u < kInputs; ++u)
      sum[u] = AddProducts(sum[u], Clipped(xs[u], ws, most), SplatWord(dy[u / kRun] + offsets[k] + u % kRun));
  }
  UNROLL
  for (int u = 0; u < kInputs; ++u)
    Store(dx + runs.at[u / kRun] + u % kRun * step, ToFloat(reinterpret_cast<Ints>(sum[u])) * runs.unit);
}

// Of x and w: `low` less 2 becomes 0, and what is 1 more is D more.
struct Grid {
  float low = 0.0f, high = 0.0f;  // of x
  int64_t one = 0;                // D

  float Top() const { return (high - low + 2.0f) * static_cast<float>(one); }
  bool operator<(const Grid &other) const {
    return std::tie(low, high, one) < std::tie(other.low, other.high, other.one);
  }
};

// One of few that span some values and zero; none, D being 0, where one of them is not finite or they are too far apart.
Grid GridOf(const Range &range, int64_t finest) {
  // The least power of two that is no less than v.
  const auto power = [](float v) { return v > 0.0f ? std::exp2(std::ceil(std::log2(std::max(v, 1.0f)))) : 0.0f; };
  Grid grid{-power(-range.low), power(range.high), finest};
  while (grid.one > 0 && grid.Top() > kTop) grid.one /= 2;
  return range.finite ? grid : Grid{};
}

// The integer nearest to v, of 0 .. kTop, in the lower half of a word.
inline Ints Rounded(Vec v) { return reinterpret_cast<Ints>(v + Splat(8388608.0f)) & 0xffff; }

// Of the values of |dy| in an image: the largest, the largest sum over all filters at a position, the mean.
struct Sizes {
  double largest = 1e-37, largest_sum = 1e-37, mean = 1e-37;
  bool finite = true;
};

// Two planes of dy as words; without a second one its half is zero.
struct PlanePair {
  const float *first, *second;
  float factor;

  template <int kStep>
  Vec Values(int64_t at, int64_t step, int64_t n) const {
    const Vec zero = Splat(kRounding);
    return reinterpret_cast<Vec>(Words(LoadStrided<kStep>(first + at, step, n) * factor + zero,
                                       second ? LoadStrided<kStep>(second + at, step, n) * factor + zero : zero));
  }
  void Prefetch(int64_t at) const {
    __builtin_prefetch(first + at);
    if (second) __builtin_prefetch(second + at);
  }
};

// Numbers of input_grad.h: words of integers of two filters.
class Fixed {
 public:
  struct Image {
    const std::vector<float> *weights;
    float unit;
    Grid grid;
    float factor;  // of dy
  };
  static constexpr bool kSumsOfDy = true;

  static int64_t Words(const Layer &layer) { return CeilDiv(layer.filters, 2); }

  Fixed(const Layer &layer, const std::vector<Phase> &phases, const float *dy, const float *x, const float *w)
      : layer_(layer), phases_(phases), dy_(dy), x_(x), w_(w),
        finite_(RangeOf(w, layer.filters * layer.taps).finite), images_(layer.batch) {
    for (const Phase &phase : phases) most_taps_ = std::max<int64_t>(most_taps_, 2 * phase.taps.size());
  }

  // Thread-safe.
  const Image &Of(int64_t n) {
    return images_.Get(n, [&] { return ImageOf(n); });
  }

  void PackDy(const Image &image, int64_t n, int64_t f, const Band &band, float *out) const {
    const int64_t plane = layer_.out_height * layer_.out_width;
    const float *const first = DyOf(n) + 2 * f * plane;
    band.Pack(PlanePair{first, 2 * f + 1 < layer_.filters ? first + plane : nullptr, image.factor}, layer_.out_height,
              layer_.out_width, 0.0f, out);
  }

  void PackX(const Image &image, int64_t count, float *x) const {
    const float one = static_cast<float>(image.grid.one);
    for (int64_t i = 0; i < count; i += kLanes) {
      const Ints integers = Rounded((Load(x + i) - (image.grid.low - 2.0f)) * one);
      StoreAs(x + i, integers | integers << 16);
    }
  }

  static Sums Add(Sums sum, const float *words) { return AddPairs(sum, LoadAs<Shorts>(words)); }
  static InputGradBlock *Loop(int64_t) { return FixedBlock; }

 private:
  const Layer &layer_;
  const std::vector<Phase> &phases_;
  const float *const dy_, *const x_, *const w_;
  const bool finite_;
  int64_t most_taps_ = 0;  // of an input, counting filters one by one
  Once<Image> images_;
  std::map<Grid, std::vector<std::vector<float>>> weights_;
  std::mutex mutex_;

  const float *DyOf(int64_t n) const { return dy_ + n * layer_.AllFilters() * layer_.out_height * layer_.out_width; }

  Image ImageOf(int64_t n) {
    const float *const image = x_ + n * layer_.AllChannels() * layer_.height * layer_.width;
    const Sizes dy = SizesOf(DyOf(n));
    // Rounding dy adds to a sum half a step for each tap, of D.
    const int64_t finest = std::max<int64_t>(1, std::min<int64_t>(kFinest, (1 << 30) / most_taps_));
    Grid grid = GridOf(RangeOf(image, layer_.channels * layer_.height * layer_.width), finest);
    if (!finite_ || !dy.finite || grid.one == 0)
      return {WeightsOf({}), std::numeric_limits<float>::quiet_NaN(), {}, 0.0f};
    // Where sums leave little room, dy and the grid share it.
    while (grid.one > 1 && Room(dy, grid.one) < std::min<double>(kLargest / dy.largest, grid.one / dy.mean))
      grid.one /= 2;
    const float factor = static_cast<float>(std::min({Room(dy, grid.one), kLargest / dy.largest, 1e30}));
    return {WeightsOf(grid), -1.0f / (factor * grid.one), grid, factor};
  }

  // By how much dy may be multiplied for all sums to fit 32 bits.
  double Room(const Sizes &dy, int64_t one) const {
    return (0.999 * 0x1p31 - 0.5 * one * most_taps_) * layer_.filters / (one * most_taps_ * dy.largest_sum);
  }

  Sizes SizesOf(const float *dy) const {
    const int64_t plane = layer_.out_height * layer_.out_width;
    Sizes sizes;
    for (int64_t q = 0; q < plane; q += kLanes) {
      Vec sums = {}, most = {};
      for (int64_t f = 0; f < layer_.filters; ++f) {
        const Vec size = Abs(LoadFirst(dy + f * plane + q, plane - q));
        sums += size;
        most = Max(size, most);
      }
      for (int i = 0; i < kLanes; ++i) {
        sizes.finite &= std::isfinite(sums[i]);
        sizes.largest = std::max<double>(sizes.largest, most[i]);
        sizes.largest_sum = std::max<double>(sizes.largest_sum, sums[i]);
        sizes.mean += sums[i] / (layer_.filters * plane);
      }
    }
    return sizes;
  }

  // Of a grid, for each phase; all 0 where there is none.
  const std::vector<float> *WeightsOf(const Grid &grid) {
    const std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::vector<float>> &found = weights_[grid];
    if (found.empty())
      for (const Phase &phase : phases_) found.push_back(WeightsOf(grid, phase));
    return found.data();
  }

  // Of a phase: [vector of channels, tap, lane], D behind the taps.
  std::vector<float> WeightsOf(const Grid &grid, const Phase &phase) const {
    std::vector<float> words;
    for (int64_t c = 0; c < layer_.channels; c += kLanes) {
      for (const Phase::Tap &tap : phase.taps) {
        Vec pair[2] = {};
        for (int i = 0; i < 2; ++i)
          for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, layer_.channels - c); ++lane)
            if (2 * tap.word + i < layer_.filters)
              pair[i][lane] = w_[(2 * tap.word + i) * layer_.taps + (c + lane) * layer_.kernel * layer_.kernel + tap.place];
        words.resize(words.size() + kLanes);
        StoreAs(&words.end()[-kLanes], Rounded(OnGrid(pair[0], grid)) | Rounded(OnGrid(pair[1], grid)) << 16);
      }
      words.resize(words.size() + kLanes);
      StoreAs(&words.end()[-kLanes], static_cast<int32_t>(grid.one) - Ints{});
    }
    return words;
  }

  static Vec OnGrid(Vec w, const Grid &grid) {
    const Vec value = (w - (grid.low - 1.0f)) * static_cast<float>(grid.one);
    return Min(Max(value, Vec{}), Splat(grid.Top()));
  }
};

}  // namespace

// Inputs and output as those of `GradientOfX`, of norm 1. A depthwise layer, which memory limits and not arithmetic, is
// computed in floats. Of x and dy all values of an image count, also those that no window reads: it gives NaN if a value of its x or dy, or of w, is not finite, or if its values of x, and
// zero, are more than about 32,000 apart.
extern "C" int AdderInputGradInt16(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *,
                                   void *) {
  return Guarded({count, data, ranks, shapes, types}, [](const Arguments &arguments) {
    const GradientOfX of(arguments);
    const Layer &layer = of.layer;
    if (layer.Empty()) return void(std::fill_n(of.dx, layer.batch * layer.AllChannels() * layer.height * layer.width, 0.0f));
    if (layer.Depthwise()) return DepthwiseInputGrad(layer, of.dy, of.x, of.w, of.dx);
    ForEachGroup(layer, [&](int64_t group) {
      InputGrad<Fixed>(layer, group, of.dy, of.x, of.w).Run(of.dx + layer.InX(group));
    });
  });
}
