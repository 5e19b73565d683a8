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
// Vectors of float32: one source for every width. The compiler lowers vector types to AVX-512, AVX, NEON or anything
// else it knows; what it would not find by itself is spelt out below, with a plain form for all other processors.
#ifndef ADDERNGD_SIMD_H_
#define ADDERNGD_SIMD_H_

#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// An inner loop is a function of its own, so that it has all the registers; its arrays of vectors stay in them if every
// index is a constant.
#define NO_INLINE __attribute__((noinline))
#define UNROLL _Pragma("GCC unroll 16")

#if defined(__AVX512F__) && defined(__AVX512DQ__)
constexpr int kLanes = 16, kRegisters = 32;
using Vec = __m512;
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
using Vec = __m256;
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
using Vec = float32x4_t;
inline Vec Min(Vec a, Vec b) { return vminq_f32(a, b); }
inline Vec Max(Vec a, Vec b) { return vmaxq_f32(a, b); }
#else
constexpr int kLanes = 4, kRegisters = 16;
using Vec = float __attribute__((vector_size(16)));
inline Vec Min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }
#endif
using VecUnaligned = float __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

using Ints = int32_t __attribute__((vector_size(4 * kLanes)));

inline Vec Load(const float *p) { return *reinterpret_cast<const VecUnaligned *>(p); }
inline void Store(float *p, Vec v) { *reinterpret_cast<VecUnaligned *>(p) = v; }
inline Vec Splat(float v) { return v - Vec{}; }  // v + 0 would be a real addition, for the sake of -0

inline Vec Abs(Vec v) { return reinterpret_cast<Vec>(reinterpret_cast<Ints>(v) & 0x7fffffff); }
inline Vec ToFloat(Ints v) { return __builtin_convertvector(v, Vec); }

// A vector of any type, in any memory.
template <typename Values>
inline Values LoadAs(const void *p) {
  Values v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <typename Values>
inline void StoreAs(void *p, Values v) { std::memcpy(p, &v, sizeof v); }

// One, of which the compiler knows nothing: `v * One() + sum` stays a multiply-add.
inline Vec One() {
  float one = 1.0f;
#if defined(__x86_64__)
  asm("" : "+x"(one));
#endif
  return Splat(one);
}

#if defined(__AVX512F__) && defined(__AVX512DQ__)

inline float Reduce(Vec v) { return _mm512_reduce_add_ps(v); }

// The first n of a vector's values, or all if there are no more; zeros behind, where nothing is read or written.
inline __mmask16 FirstLanes(int64_t n) { return n >= kLanes ? 0xffff : (1u << (n > 0 ? n : 0)) - 1; }
inline Vec LoadFirst(const float *p, int64_t n) { return _mm512_maskz_loadu_ps(FirstLanes(n), p); }
inline void StoreFirst(float *p, Vec v, int64_t n) { _mm512_mask_storeu_ps(p, FirstLanes(n), v); }
inline Vec First(Vec v, int64_t n) { return _mm512_maskz_mov_ps(FirstLanes(n), v); }

// A value in memory that is broadcast as an operand costs nothing, while a broadcast of its own takes the place of an
// arithmetic instruction. The compiler prefers to share one among several vectors, hence the assembler.

// sum + max(x, *w). Addition and maximum compete for the same two units of a Zen 4, multiply-add has two others.
inline Vec AddMax(Vec sum, Vec x, const float *w, Vec one) {
  Vec max;
  asm("vmaxps %2%{1to16%}, %1, %0" : "=v"(max) : "v"(x), "m"(*w));
  return max * one + sum;
}

// sum + x * *w.
inline Vec AddProduct(Vec sum, Vec x, const float *w) {
  asm("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(x), "m"(*w));
  return sum;
}

// x - w, by either pair of units.
template <bool by_multiply_add>
inline Vec Difference(Vec x, Vec w, Vec one) { return by_multiply_add ? _mm512_fmsub_ps(x, one, w) : x - w; }

// clip(d, -1, 1), in one instruction: the lesser of |d| and 1 with the sign of d. Of NaN it makes 1.
inline Vec Clip(Vec d, Vec one) { return _mm512_range_ps(d, one, 2); }

// sum + g * sign(*x - w).
inline Vec AddSign(Vec sum, Vec g, const float *x, Vec w) {
  __mmask16 greater, less;
  asm("vcmpps $17, %2%{1to16%}, %1, %0" : "=Yk"(greater) : "v"(w), "m"(*x));  // w < x
  asm("vcmpps $30, %2%{1to16%}, %1, %0" : "=Yk"(less) : "v"(w), "m"(*x));
  sum = _mm512_mask_add_ps(sum, greater, sum, g);
  return _mm512_mask_sub_ps(sum, less, sum, g);
}

#else

inline float Reduce(Vec v) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

inline Vec LoadFirst(const float *p, int64_t n) {
  if (n >= kLanes) return Load(p);
  Vec v = {};
  if (n > 0) std::memcpy(&v, p, n * sizeof(float));
  return v;
}

inline void StoreFirst(float *p, Vec v, int64_t n) {
  if (n >= kLanes) Store(p, v);
  else if (n > 0) std::memcpy(p, &v, n * sizeof(float));
}

inline Vec First(Vec v, int64_t n) {
  float values[kLanes];
  Store(values, v);
  return LoadFirst(values, n);
}

// The same distribution of work, where a plain difference would be the third of three instructions for one pair of
// units.
#if defined(__FMA__)
inline Vec AddMax(Vec sum, Vec x, const float *w, Vec one) { return Max(x, Splat(*w)) * one + sum; }
template <bool>
inline Vec Difference(Vec x, Vec w, Vec one) { return _mm256_fmsub_ps(x, one, w); }
#else
inline Vec AddMax(Vec sum, Vec x, const float *w, Vec) { return Max(x, Splat(*w)) + sum; }
template <bool>
inline Vec Difference(Vec x, Vec w, Vec) { return x - w; }
#endif

inline Vec AddProduct(Vec sum, Vec x, const float *w) { return sum + x * *w; }
inline Vec Clip(Vec d, Vec one) { return Max(-one, Min(one, d)); }  // in this order a NaN passes through
inline Vec AddSign(Vec sum, Vec g, const float *x, Vec w) {
  const Vec v = Splat(*x);
  return sum + (v > w ? g : Vec{}) - (v < w ? g : Vec{});
}

#endif

// g where y is positive, and where it is NaN, which must not look like a zero.
inline Vec WherePositive(Vec g, Vec y) {
#if defined(__AVX512F__) && defined(__AVX512DQ__)
  return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, Vec{}, _CMP_NLE_UQ), g);
#else
  return y <= Vec{} ? Vec{} : g;
#endif
}

// NaN where v is, and zero where it is any number: what clipping, or a sign, would hide of it, added by hand.
inline Vec OnlyNaN(Vec v) { return v == v ? Vec{} : v; }

// Keeps a vector that was loaded once from being loaded anew for each of its uses.
inline Vec InRegister(Vec v) {
#if defined(__x86_64__)
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

// Lanes of a and b: those of b count from kLanes on.
#if defined(__clang__)
template <int... lanes>
inline Vec Shuffle(Vec a, Vec b) { return __builtin_shufflevector(a, b, lanes...); }
#else
template <int... lanes>
inline Vec Shuffle(Vec a, Vec b) {
  return __builtin_shuffle(a, b, Ints{lanes...});
}
#endif

// a[0], a[2], ..., b[0], b[2], ...
template <int... lane>
inline Vec EvenLanes(Vec a, Vec b, std::integer_sequence<int, lane...>) { return Shuffle<2 * lane...>(a, b); }
inline Vec EvenLanes(Vec a, Vec b) { return EvenLanes(a, b, std::make_integer_sequence<int, kLanes>{}); }

// Transposes a square of kLanes vectors: its quarters of `size` x `size`, then theirs.
template <int size, int... lane>
inline void SwapQuarters(Vec *v, std::integer_sequence<int, lane...>) {
  UNROLL
  for (int i = 0; i < kLanes; ++i) {
    if (i & size) continue;
    const Vec upper = v[i], lower = v[i + size];
    v[i] = Shuffle<(lane & size ? kLanes + lane - size : lane)...>(upper, lower);
    v[i + size] = Shuffle<(lane & size ? kLanes + lane : lane + size)...>(upper, lower);
  }
}
template <int size = kLanes / 2>
inline void Transpose(Vec *v) {
  SwapQuarters<size>(v, std::make_integer_sequence<int, kLanes>{});
  if constexpr (size > 1) Transpose<size / 2>(v);
}

#endif  // ADDERNGD_SIMD_H_
