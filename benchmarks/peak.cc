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
// What this processor's core can do at most: the instructions of the inner loops, and nothing else.
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "simd.h"

namespace {

constexpr int kSums = kRegisters == 32 ? 16 : 8;
constexpr int64_t kRounds = 2000000;
alignas(64) volatile float values[kLanes + 2] = {0.25f, 0.5f};

// A new value, for all that the compiler knows; or it would compute with it only once.
inline void Renew(Vec *v) {
#if defined(__x86_64__)
  asm volatile("" : "+x"(*v));
#elif defined(__aarch64__)
  asm volatile("" : "+w"(*v));
#endif
}

// Billions of values per second of step(sum, x, w), over independent sums.
template <typename Step>
double Rate(Step step) {
  double best = 0.0;
  for (int repeat = 0; repeat < 15; ++repeat) {
    Vec sum[kSums] = {}, x = Splat(values[0]);
    const float *w = const_cast<const float *>(values) + 1;
    const auto start = std::chrono::steady_clock::now();
    for (int64_t i = 0; i < kRounds; ++i) {
      UNROLL
      for (int k = 0; k < kSums; ++k) {
        Renew(&x);
        sum[k] = step(sum[k], x, w, k);
      }
    }
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    for (int k = 0; k < kSums; ++k) values[2] = Reduce(sum[k]);
    best = std::max(best, kRounds * kSums * kLanes / seconds.count() / 1e9);
  }
  return best;
}

}  // namespace

extern "C" {

// A convolution: one multiply-add.
double MultiplyAdd() {
  const Vec one = One();
  return Rate([one](Vec sum, Vec x, const float *, int) { return x * one + sum; });
}

// The forward pass of an adder layer.
double Maximum() {
  const Vec one = One();
  return Rate([one](Vec sum, Vec x, const float *w, int) { return AddMax(sum, x, w, one); });
}

// The gradient of its input.
double Clipped() {
  const Vec one = One(), ws = Splat(values[1]);
  return Rate([one, ws](Vec sum, Vec x, const float *w, int k) {
    return AddProduct(sum, Clip(k % 2 ? Difference<true>(x, ws, one) : Difference<false>(x, ws, one), one), w);
  });
}

}  // extern "C"
