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
// Batch norm in training on CPU, with the shortcut and the ReLU behind it, and its gradients (arXiv 1502.03167,
// algorithm 1 and section 3): y = relu(batch_norm(x) + shortcut).
//
// A thread takes a channel at a time, its planes image by image: one pass over memory for the sums, one for the result.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "abi.h"
#include "simd.h"
#include "threads.h"

namespace {

// A tensor [N, C, ...]: the values of a channel are `images` planes of `size`, `channels * size` apart.
struct Shape {
  int64_t images, channels, size = 1, count;  // count: values of a channel

  explicit Shape(const Tensor &x) : images(x.shape[0]), channels(x.shape[1]) {
    for (int i = 2; i < x.rank; ++i) size *= x.shape[i];
    if (size == 0) images = 0;
    count = images * size;
  }
  int64_t Plane(int64_t image, int64_t channel) const { return (image * channels + channel) * size; }
};

// A whole vector of a plane, and the one at its end, of which n values are there.
struct Whole {
  Vec Load(const float *p) const { return ::Load(p); }
  void Store(float *p, Vec v) const { ::Store(p, v); }
  Vec Only(Vec v) const { return v; }
};
struct End {
  int64_t n;
  Vec Load(const float *p) const { return LoadFirst(p, n); }
  void Store(float *p, Vec v) const { StoreFirst(p, v, n); }
  Vec Only(Vec v) const { return First(v, n); }  // zeros behind
};

// Calls work(i, part) for the vectors of a plane.
template <typename Work>
inline void ForEachVector(int64_t size, Work work) {
  int64_t i = 0;
  for (; i + kLanes <= size; i += kLanes) work(i, Whole{});
  if (i < size) work(i, End{size - i});
}

// A sum of many vectors: in floats for as long as they are few.
class LongSum {
 public:
  void Add(Vec v) { lanes_ += v; }
  void AddUp() { sum_ += Reduce(lanes_), lanes_ = Vec{}; }
  double Get() { return AddUp(), sum_; }

 private:
  Vec lanes_ = {};
  double sum_ = 0.0;
};

struct Statistics {
  double mean = 0.0, squares = 0.0;  // squares: sum of squared deviations

  // Of a channel. Each plane has its own mean first, so that no large sums cancel.
  Statistics(const Shape &s, const float *x, int64_t channel) {
    for (int64_t n = 0; n < s.images; ++n) {
      const float *p = x + s.Plane(n, channel);
      Vec sum = {}, squared = {};
      ForEachVector(s.size, [&](int64_t i, auto part) { sum += part.Load(p + i); });
      const double plane_mean = Reduce(sum) / s.size;
      const float centre = static_cast<float>(plane_mean);
      ForEachVector(s.size, [&](int64_t i, auto part) {
        const Vec d = part.Only(part.Load(p + i) - centre);
        squared += d * d;
      });
      const double plane_squares = Reduce(squared);
      const double delta = plane_mean - mean;
      mean += delta / (n + 1);
      squares += plane_squares + delta * delta * s.size * n / (n + 1);
    }
  }
};

struct Forward {
  Shape shape;
  const float *x, *gamma, *beta, *moving_mean, *moving_variance, *shortcut;  // shortcut: as x, or null
  double momentum, epsilon;
  bool relu;
  float *y, *new_mean, *new_variance, *mean, *inverse;

  void Run(int64_t channel) const {
    const Statistics statistics(shape, x, channel);
    // The variance of one value, and of none, is 0; none leave the moving statistics as they are.
    const double variance = statistics.squares / std::max<int64_t>(1, shape.count);
    const double unbiased = statistics.squares / std::max<int64_t>(1, shape.count - 1);
    const double keep = shape.count > 0 ? momentum : 1.0;
    new_mean[channel] = static_cast<float>(keep * moving_mean[channel] + (1.0 - keep) * statistics.mean);
    new_variance[channel] = static_cast<float>(keep * moving_variance[channel] + (1.0 - keep) * unbiased);
    mean[channel] = static_cast<float>(statistics.mean);
    const double inverse_deviation = 1.0 / std::sqrt(variance + epsilon);
    inverse[channel] = static_cast<float>(inverse_deviation);
    Normalise(channel, mean[channel], gamma[channel] * inverse_deviation, beta[channel]);
  }

  void Normalise(int64_t channel, float centre, float scale, float shift) const {
    const Vec floor = Splat(relu ? 0.0f : -std::numeric_limits<float>::infinity());
    for (int64_t n = 0; n < shape.images; ++n) {
      const int64_t plane = shape.Plane(n, channel);
      const float *from = x + plane, *added = shortcut ? shortcut + plane : nullptr;
      ForEachVector(shape.size, [=, to = y + plane](int64_t i, auto part) {
        Vec value = (part.Load(from + i) - centre) * scale + shift;
        if (added) value += part.Load(added + i);
        part.Store(to + i, Max(floor, value));  // in this order a NaN passes through
      });
    }
  }
};

// Of y = relu(z), z = batch_norm(x) + shortcut: what z's gradient dz, dy where y is positive, makes of the others.
struct Grad {
  Shape shape;
  const float *dy, *x, *gamma, *mean, *inverse, *y;  // y: null without a ReLU, where dz is dy
  float *dx, *dgamma, *dbeta, *dz;                   // dz: null where it is not wanted

  void Run(int64_t channel) const { y ? Run<true>(channel) : Run<false>(channel); }

 private:
  static constexpr int64_t kFew = 1024;  // values in a sum of floats

  template <bool relu>
  void Run(int64_t channel) const {
    const float centre = mean[channel], inverse_deviation = inverse[channel];
    LongSum sum, product;  // of dz; of dz and x - mean
    for (int64_t n = 0; n < shape.images; ++n) {
      const int64_t plane = shape.Plane(n, channel);
      const float *const from = x + plane;
      float *const out = dz ? dz + plane : nullptr;
      ForEachVector(shape.size, [&](int64_t i, auto part) {
        const Vec g = GradOf<relu>(plane + i, part);
        if (out) part.Store(out + i, g);
        sum.Add(g);
        product.Add(g * part.Only(part.Load(from + i) - centre));
        if (i % kFew == 0) sum.AddUp(), product.AddUp();
      });
      if (n * shape.size % kFew < shape.size) sum.AddUp(), product.AddUp();
    }
    dgamma[channel] = static_cast<float>(product.Get() * inverse_deviation);
    dbeta[channel] = static_cast<float>(sum.Get());
    const float slope = product.Get() * inverse_deviation * inverse_deviation / shape.count;
    WriteInputGrad<relu>(channel, sum.Get() / shape.count, slope, gamma[channel] * inverse_deviation);
  }

  // dz, zeros behind the last.
  template <bool relu, typename Part>
  Vec GradOf(int64_t at, const Part &part) const {
    const Vec g = part.Load(dy + at);
    return relu ? WherePositive(g, part.Load(y + at)) : g;
  }

  template <bool relu>
  void WriteInputGrad(int64_t channel, float constant, float slope, float scale) const {
    const float centre = mean[channel];
    for (int64_t n = 0; n < shape.images; ++n) {
      const int64_t plane = shape.Plane(n, channel);
      ForEachVector(shape.size, [&](int64_t i, auto part) {
        const Vec g = dz ? part.Load(dz + plane + i) : GradOf<relu>(plane + i, part);
        part.Store(dx + plane + i, (g - constant - (part.Load(x + plane + i) - centre) * slope) * scale);
      });
    }
  }
};

}  // namespace

// All tensors are float32 but the geometry, whose values nobody reads.
extern "C" {

// Inputs x [N, C, ...], gamma, beta, moving_mean, moving_variance [C], options [momentum, epsilon], maybe a shortcut as
// x, and the geometry [relu + 1]. Outputs y as x, the new moving_mean and moving_variance, and for the gradient the
// batch's mean and 1 / sqrt(variance + epsilon), all [C].
int BatchNormForward(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), gamma = arguments.Next(), beta = arguments.Next();
    const Tensor moving_mean = arguments.Next(), moving_variance = arguments.Next(), options = arguments.Next();
    const Tensor shortcut = arguments.NextBefore(6), geometry = arguments.Next();
    const Tensor y = arguments.Next(), new_mean = arguments.Next(), new_variance = arguments.Next();
    const Tensor mean = arguments.Next(), inverse = arguments.Next();
    const Forward forward{Shape(x), x.Data(), gamma.Data(), beta.Data(), moving_mean.Data(), moving_variance.Data(),
                          shortcut.Data(), options.Data()[0], options.Data()[1], geometry.shape[0] > 1,
                          y.Data(), new_mean.Data(), new_variance.Data(), mean.Data(), inverse.Data()};
    Threads::ForEach(Threads::Count(), forward.shape.channels, [&](int64_t channel) { forward.Run(channel); });
  });
}

// Inputs dy, x, gamma, the batch's mean and inverse deviation from above, y if there is a ReLU, and the geometry
// [relu + 1, shortcut + 1]. Outputs dx, dgamma, dbeta and, with a ReLU and a shortcut, that one's gradient as dx;
// without a ReLU it is dy itself.
int BatchNormGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor dy = arguments.Next(), x = arguments.Next(), gamma = arguments.Next();
    const Tensor mean = arguments.Next(), inverse = arguments.Next();
    const Tensor y = arguments.NextBefore(4);
    arguments.Next();  // the geometry, which says what the presence of y and dz says
    const Tensor dx = arguments.Next(), dgamma = arguments.Next(), dbeta = arguments.Next();
    const Tensor dz = arguments.NextBefore(0);
    const Grad grad{Shape(x), dy.Data(), x.Data(), gamma.Data(), mean.Data(), inverse.Data(), y.Data(),
                    dx.Data(), dgamma.Data(), dbeta.Data(), dz.Data()};
    Threads::ForEach(Threads::Count(), grad.shape.channels, [&](int64_t channel) { grad.Run(channel); });
  });
}

}  // extern "C"
