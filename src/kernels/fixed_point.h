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
// Fixed point of 16 bits: vectors of words, each of which is two integers, and what they are added up in.
#ifndef ADDERNGD_FIXED_POINT_H_
#define ADDERNGD_FIXED_POINT_H_

#include <algorithm>
#include <cstdint>

#include "simd.h"

using Shorts = int16_t __attribute__((vector_size(4 * kLanes)));
// Unsigned, for sums may overflow where nobody looks: behind the last position of a tile memory has any value.
using Sums = uint32_t __attribute__((vector_size(4 * kLanes)));

// sum + both products of the integers of each word.
inline Sums AddProducts(Sums sum, Shorts a, Shorts b) {
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512DQ__)
  return reinterpret_cast<Sums>(_mm512_dpwssd_epi32(reinterpret_cast<__m512i>(sum), reinterpret_cast<__m512i>(a),
                                                    reinterpret_cast<__m512i>(b)));
#elif defined(__AVX512BW__) && defined(__AVX512DQ__)
  return sum + reinterpret_cast<Sums>(_mm512_madd_epi16(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
#elif defined(__AVX2__) && !defined(__AVX512F__)
  return sum + reinterpret_cast<Sums>(_mm256_madd_epi16(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
#elif defined(__aarch64__)
  const int16x8_t x = reinterpret_cast<int16x8_t>(a), y = reinterpret_cast<int16x8_t>(b);
  return sum + reinterpret_cast<Sums>(vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y)));
#else
  const Ints x = reinterpret_cast<Ints>(a), y = reinterpret_cast<Ints>(b);
  return sum + reinterpret_cast<Sums>((x >> 16) * (y >> 16)) +
         reinterpret_cast<Sums>(((x << 16) >> 16) * ((y << 16) >> 16));
#endif
}

// sum + both integers of each word.
inline Sums AddPairs(Sums sum, Shorts words) {
#if defined(__aarch64__)
  return reinterpret_cast<Sums>(vpadalq_s16(reinterpret_cast<int32x4_t>(sum), reinterpret_cast<int16x8_t>(words)));
#else
  return AddProducts(sum, words, Shorts{} + 1);
#endif
}

// Words of the integers nearest to a and b, of which either is given as its sum with 3 * 2^22: the lowest bits of it.
constexpr float kRounding = 12582912.0f;
inline Ints Words(Vec a, Vec b) { return (reinterpret_cast<Ints>(a) & 0xffff) | reinterpret_cast<Ints>(b) << 16; }

inline Shorts SplatWord(const float *word) { return reinterpret_cast<Shorts>(LoadAs<int32_t>(word) - Ints{}); }

// The least and the largest of some values and zero, and whether all of them are finite.
struct Range {
  float low, high;
  bool finite;
};

inline Range RangeOf(const float *values, int64_t count) {
  constexpr int32_t kInfinite = 0x7f800000;  // bits of the exponent, all set where a value is not finite
  Vec lows = {}, highs = {};
  Ints broken = {};
  const auto take = [&](Vec v) {
    lows = Min(v, lows), highs = Max(v, highs);
    broken |= (reinterpret_cast<Ints>(v) & kInfinite) == kInfinite;
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) take(Load(values + i));
  take(LoadFirst(values + i, count - i));
  Range range{0.0f, 0.0f, true};
  for (int j = 0; j < kLanes; ++j) {
    range.low = std::min(range.low, lows[j]), range.high = std::max(range.high, highs[j]);
    range.finite &= broken[j] == 0;
  }
  return range;
}

#endif  // ADDERNGD_FIXED_POINT_H_
