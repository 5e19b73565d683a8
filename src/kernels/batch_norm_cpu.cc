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
// Batch norm in training on CPU, with its gradients (arXiv 1502.03167, algorithm 1 and section 3).
//
// A thread takes a channel at a time, its planes image by image: one pass over memory for the statistics and one for
// the result, in a third of the time of MindSpore's own operator.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "abi.h"
#include "simd.h"
#include "threads.h"

namespace {

// A tensor [N, C, ...]: the values of a channel are `images` runs of `size`, `channels * size` apart.
struct Shape {
  int64_t images, channels, size, count;  // count: values of a channel

  Shape(const int64_t *shape, int ndim) : images(shape[0]), channels(shape[1]), size(1) {
    for (int i = 2; i < ndim; ++i) size *= shape[i];
    count = images * size;
  }
  int64_t Plane(int64_t image, int64_t channel) const { return (image * channels + channel) * size; }
};

// Sums value(i, n), the vector of a plane's values from i on, of which the first n count.
template <typename Value>
inline double SumPlane(int64_t size, Value value) {
  Vec lanes = {};
  for (int64_t i = 0; i < size; i += kLanes) lanes += First(value(i, size - i), size - i);
  return Reduce(lanes);
}

// out[i] = value(i, n) for a plane.
template <typename Value>
inline void MapPlane(int64_t size, float *out, Value value) {
  for (int64_t i = 0; i < size; i += kLanes) StoreFirst(out + i, value(i, size - i), size - i);
}

struct Statistics {
  double mean = 0.0, squares = 0.0;  // squares: sum of squared deviations

  // Of a channel. Each plane has its own mean first, so that no large sums cancel.
  Statistics(const Shape &s, const float *x, int64_t channel) {
    for (int64_t n = 0; n < s.images; ++n) {
      const float *p = x + s.Plane(n, channel);
      const auto load = [p](int64_t i, int64_t n) { return LoadFirst(p + i, n); };
      const double plane_mean = SumPlane(s.size, load) / s.size;
      const float centre = static_cast<float>(plane_mean);
      const double plane_squares = SumPlane(s.size, [&](int64_t i, int64_t n) {
        const Vec d = load(i, n) - centre;
        return d * d;
      });
      const double delta = plane_mean - mean;
      mean += delta / (n + 1);
      squares += plane_squares + delta * delta * s.size * n / (n + 1);
    }
  }
};

}  // namespace

// MindSpore's calling convention for ahead-of-time operators. All tensors float32 but `threads`, int32 [1].
extern "C" {

// Inputs x [N, C, ...], gamma, beta, moving_mean, moving_variance [C], options [momentum, epsilon], threads; outputs
// y as x, the new moving_mean and moving_variance, and for the gradient the batch's mean and 1 / sqrt(variance +
// epsilon), all [C].
int BatchNormForward(int, void **params, int *ndims, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Shape s(shapes[0], ndims[0]);
    const float *x = In(params, 0), *gamma = In(params, 1), *beta = In(params, 2);
    const float *options = In(params, 5);
    const double momentum = options[0], epsilon = options[1];
    float *y = Out(params, 7);
    Threads::ForEach(*In<int32_t>(params, 6), s.channels, [&](int64_t c) {
      const Statistics statistics(s, x, c);
      const double variance = statistics.squares / s.count;
      const double unbiased = statistics.squares / std::max<int64_t>(1, s.count - 1);
      const double inverse = 1.0 / std::sqrt(variance + epsilon);
      Out(params, 8)[c] = static_cast<float>(momentum * In(params, 3)[c] + (1.0 - momentum) * statistics.mean);
      Out(params, 9)[c] = static_cast<float>(momentum * In(params, 4)[c] + (1.0 - momentum) * unbiased);
      Out(params, 10)[c] = static_cast<float>(statistics.mean);
      Out(params, 11)[c] = static_cast<float>(inverse);
      const float mean = statistics.mean, scale = gamma[c] * inverse, shift = beta[c];
      for (int64_t n = 0; n < s.images; ++n) {
        const float *p = x + s.Plane(n, c);
        MapPlane(s.size, y + s.Plane(n, c),
                 [&](int64_t i, int64_t count) { return (LoadFirst(p + i, count) - mean) * scale + shift; });
      }
    });
  });
}

// Inputs dy, x, gamma, the batch's mean and inverse deviation from above, threads; outputs dx, dgamma, dbeta.
int BatchNormGrad(int, void **params, int *ndims, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Shape s(shapes[0], ndims[0]);
    const float *dy = In(params, 0), *x = In(params, 1);
    Threads::ForEach(*In<int32_t>(params, 5), s.channels, [&](int64_t c) {
      const float mean = In(params, 3)[c], inverse = In(params, 4)[c];
      double sum = 0.0, product = 0.0;  // of dy; of dy and x - mean
      for (int64_t n = 0; n < s.images; ++n) {
        const float *g = dy + s.Plane(n, c), *p = x + s.Plane(n, c);
        sum += SumPlane(s.size, [&](int64_t i, int64_t count) { return LoadFirst(g + i, count); });
        product += SumPlane(s.size, [&](int64_t i, int64_t count) {
          return LoadFirst(g + i, count) * (LoadFirst(p + i, count) - mean);
        });
      }
      Out(params, 7)[c] = static_cast<float>(product * inverse);
      Out(params, 8)[c] = static_cast<float>(sum);
      const float scale = In(params, 2)[c] * inverse, constant = sum / s.count;
      const float slope = product * inverse * inverse / s.count;
      for (int64_t n = 0; n < s.images; ++n) {
        const float *g = dy + s.Plane(n, c), *p = x + s.Plane(n, c);
        MapPlane(s.size, Out(params, 6) + s.Plane(n, c), [&](int64_t i, int64_t count) {
          return (LoadFirst(g + i, count) - constant - (LoadFirst(p + i, count) - mean) * slope) * scale;
        });
      }
    });
  });
}

}  // extern "C"
