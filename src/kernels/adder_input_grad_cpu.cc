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
// Gradient of an adder layer's input on CPU: dx = sum dy * clip(w - x, -1, 1) in norm 1, AdderNet's choice (arXiv
// 1912.13200, eq. 6), and sum dy * (w - x), the true one, in norm 2. See input_grad.h.

#include <cstdint>
#include <vector>

#include "abi.h"
#include "depthwise.h"
#include "input_grad.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"

namespace {

// See `InputGradBlock`. Behind the last w lies what of them is NaN: clipping might hide it.
template <int norm>
NO_INLINE void FloatBlock(int64_t taps, const InputRuns &runs, const int64_t *offsets, const float *w, const float *x,
                          int64_t step, float *dx) {
  const Vec one = One();
  const float *dy[kInputRuns];
  UNROLL
  for (int r = 0; r < kInputRuns; ++r) dy[r] = runs.dy[r];
  Vec sum[kInputs], xs[kInputs];
  UNROLL
  for (int u = 0; u < kInputs; ++u) {
    xs[u] = Load(x + runs.at[u / kRun] + u % kRun * step);
    sum[u] = xs[u] - xs[u];  // zero, but NaN where x is not finite, which clipping might hide
  }
  for (int64_t k = 0; k < taps; ++k, w += kLanes) {
    const Vec ws = InRegister(Load(w));
    UNROLL
    for (int u = 0; u < kInputs; ++u) {
      const Vec d = u % 2 ? Difference<true>(xs[u], ws, one) : Difference<false>(xs[u], ws, one);
      sum[u] = AddProduct(sum[u], norm == 1 ? Clip(d, one) : d, dy[u / kRun] + offsets[k] + u % kRun);
    }
  }
  UNROLL
  for (int u = 0; u < kInputs; ++u) Store(dx + runs.at[u / kRun] + u % kRun * step, (sum[u] + Load(w)) * runs.unit);
}

// Numbers of input_grad.h: floats.
struct Floats {
  struct Image { const std::vector<float> *weights; float unit; };
  static constexpr bool kSumsOfDy = false;

  const Layer &layer;
  const float *const dy;
  std::vector<std::vector<float>> weights;

  static int64_t Words(const Layer &layer) { return layer.filters; }

  Floats(const Layer &layer, const std::vector<Phase> &phases, const float *dy, const float *, const float *w)
      : layer(layer), dy(dy) {
    for (const Phase &phase : phases) weights.push_back(WeightsOf(phase, w));
  }

  Image Of(int64_t) const { return {weights.data(), -1.0f}; }
  void PackDy(const Image &, int64_t n, int64_t f, const Band &band, float *out) const {
    band.Pack(Plane{dy + (n * layer.AllFilters() + f) * layer.out_height * layer.out_width, 0.0f}, layer.out_height,
              layer.out_width, 0.0f, out);
  }
  void PackX(const Image &, int64_t, float *) const {}
  static InputGradBlock *Loop(int64_t norm) { return norm == 1 ? FloatBlock<1> : FloatBlock<2>; }

 private:
  // Behind the taps of a vector of channels, NaN where any of them is.
  std::vector<float> WeightsOf(const Phase &phase, const float *w) const {
    const int64_t window = layer.kernel * layer.kernel;
    std::vector<float> found;
    for (int64_t c = 0; c < layer.channels; c += kLanes) {
      Vec broken = {};
      for (const Phase::Tap &tap : phase.taps) {
        for (int64_t i = c; i < c + kLanes; ++i)
          found.push_back(i < layer.channels ? w[tap.word * layer.taps + i * window + tap.place] : 0.0f);
        broken += OnlyNaN(Load(&found.end()[-kLanes]));
      }
      found.resize(found.size() + kLanes);
      Store(&found.end()[-kLanes], broken);
    }
    return found;
  }
};

}  // namespace

// Inputs and output as those of `GradientOfX`.
extern "C" int AdderInputGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *,
                              void *) {
  return Guarded({count, data, ranks, shapes, types}, [](const Arguments &arguments) {
    const GradientOfX of(arguments);
    if (of.layer.Depthwise()) return DepthwiseInputGrad(of.layer, of.dy, of.x, of.w, of.dx);
    ForEachGroup(of.layer, [&](int64_t group) {
      InputGrad<Floats>(of.layer, group, of.dy, of.x, of.w).Run(of.dx + of.layer.InX(group));
    });
  });
}
