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
// Forward pass of an adder layer on CPU, with all that stands behind it in an evaluation. Norm 1: y = -sum |x - w|
// (arXiv 1912.13200, eq. 2); norm 2: y = -1/2 sum (x - w)^2 (arXiv 2212.11803).
//
// sum |x - w| = 2 * (sum max(x, w) - sum x / 2 - sum w / 2): a maximum and a multiply-add, by one, issue side by side,
// and so a pair (x, w) costs what a pair of a convolution costs. The two other sums are one per position and one per
// filter; they are what the accumulators start from, so that no two large sums cancel at the end. Likewise
// -sum (x - w)^2 / 2 = sum x * w - sum x^2 / 2 - sum w^2 / 2. x and w are centred before, by a constant per channel,
// which changes no difference and keeps the accuracy where both lie far from zero.
//
// See packing.h for the register block and the layouts, forward.h for the tiles. Those of an image are shared out among
// threads; no result depends on how many there are, or on the tiles.

#include <cstdint>
#include <vector>

#include "abi.h"
#include "forward.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"
#include "stage.h"

namespace {

// See `Block`: sum_k max(x, w) - sum_x / 2 - sum_w / 2 = sum_k |x - w| / 2, or the sum of products, less half of the
// sums of squares, = -sum_k (x - w)^2 / 2.
template <int norm>
NO_INLINE void FloatBlock(int64_t taps, const float *x, const int64_t *runs, const int64_t *offsets, const float *w,
                          const float *sum_x, const float *sum_w, float *out, int64_t pitch) {
  const Vec one = One(), half = Load(sum_w) * 0.5f;
  const float *xs[kRuns];
  UNROLL
  for (int r = 0; r < kRuns; ++r) xs[r] = x + runs[r];
  Vec sum[kRuns * kRun];
  UNROLL
  for (int u = 0; u < kRuns * kRun; ++u) sum[u] = -half - sum_x[u] * 0.5f;
  for (int64_t k = 0; k < taps; ++k, w += kLanes) {
    const Vec ws = InRegister(Load(w));
    UNROLL
    for (int u = 0; u < kRuns * kRun; ++u) {
      const float *value = xs[u / kRun] + offsets[k] + u % kRun;
      sum[u] = norm == 1 ? AddMax(sum[u], ws, value, one) : AddProduct(sum[u], ws, value);
    }
  }
  StoreBlock(sum, out, pitch);
}

// What the sums over x alone, and over w alone, are of.
template <typename T>
inline T Power(T v, int64_t norm) { return norm == 1 ? v : v * v; }

// Numbers of forward.h: floats, centred.
struct Floats {
  using Sum = Vec;
  static constexpr int kSums = 1;
  struct Image { const float *filters, *filter_sums; float unit; };

  const Layer layer;
  const std::vector<float> centres;
  std::vector<float> filters, filter_sums;

  Floats(const Layer &of, const float *w)
      : layer(of), centres(Centres(of, w)), filters(RoundUp(of.filters, kLanes) * of.taps + kLanes * kLanes),
        filter_sums(RoundUp(of.filters, kLanes)) {
    for (int64_t f = 0; f < layer.filters; f += kLanes) {
      float *tap = &filters[f * layer.taps];
      ToLanes(w + f * layer.taps, layer.taps, layer.filters - f, layer.taps, kZeros, tap, kLanes);
      double sums[kLanes] = {};
      for (const float centre : centres)
        for (int64_t k = 0; k < layer.kernel * layer.kernel; ++k, tap += kLanes)
          for (int i = 0; i < kLanes; ++i) sums[i] += Power(tap[i] -= centre, layer.norm);
      for (int i = 0; i < kLanes; ++i) filter_sums[f + i] = static_cast<float>(sums[i]);
    }
  }

  Image Of(const float *) const { return {filters.data(), filter_sums.data(), layer.norm == 1 ? -2.0f : 1.0f}; }
  void Pack(const Image &, const float *x, int64_t c, const Band &band, float *out) const {
    band.Pack(Plane{x + c * layer.height * layer.width, centres[c]}, layer.height, layer.width, -centres[c], out);
  }
  Vec Add(Vec sum, const float *value) const { return sum + Power(Load(value), layer.norm); }
  static Block *Loop(int64_t norm) { return norm == 1 ? FloatBlock<1> : FloatBlock<2>; }
};

}  // namespace

extern "C" {

int AdderForward(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunForward<Floats>({count, data, ranks, shapes, types});
}

int AdderFolded(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunFolded<Floats>({count, data, ranks, shapes, types});
}

int AdderStage(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunStage<Floats>({count, data, ranks, shapes, types});
}

}  // extern "C"
