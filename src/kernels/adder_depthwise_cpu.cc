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
// The passes of a depthwise adder layer on CPU: each filter sees one channel, and each channel has some filters.
//
// A sum has as many terms as a window has taps, and nothing is read for several filters: memory is the limit, not
// arithmetic. So a vector is some columns of a row, taken from a plane that was packed as a band, see packing.h, and a
// weight is one number. Differences are taken as they are. Planes, or channels for the gradient of the weights, are
// shared out among threads; no result depends on how many there are.

#include "depthwise.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "packing.h"
#include "simd.h"
#include "threads.h"

namespace {

// Planes of x as the forward pass and the gradient of the weights read them.
struct Inputs {
  const Layer &layer;
  const Band band = InputsOf(layer, 0, layer.out_height, layer.out_width);
  std::vector<int64_t> offsets = {};  // of the taps, from the first

  explicit Inputs(const Layer &of) : layer(of) {
    for (int64_t i = 0; i < layer.kernel; ++i)
      for (int64_t j = 0; j < layer.kernel; ++j) offsets.push_back(band.At(i, j));
  }

  const float *Pack(const float *plane) const {
    float *out = scratch_x.Get(band.Pitch());
    band.Pack(Plane{plane, 0.0f}, layer.height, layer.width, 0.0f, out);
    return out;
  }

  // Where the first tap of the outputs from (row, col) on is.
  int64_t At(int64_t row, int64_t col) const { return band.At(row * layer.stride, 0) + col; }
};

// sums[row][col] = sum_k |x - w[k]|, or its squares; whole vectors are written.
template <int norm>
NO_INLINE void ForwardPlane(const Inputs &inputs, const float *x, const float *w, float *sums) {
  const Layer &layer = inputs.layer;
  for (int64_t row = 0; row < layer.out_height; ++row)
    for (int64_t q = 0; q < layer.out_width; q += kLanes) {
      const float *window = x + inputs.At(row, q);
      Vec sum = {};
      for (int64_t k = 0; k < layer.taps; ++k) {
        const Vec d = Load(window + inputs.offsets[k]) - w[k];
        sum += norm == 1 ? Abs(d) : d * d;
      }
      Store(sums + row * layer.out_width + q, sum);
    }
}

// sums[k] += sum dy * (mix * (x - w[k]) + (1 - mix) * sign(x - w[k])), a vector for each tap.
template <bool mixed>
NO_INLINE void WeightGradPlane(const Inputs &inputs, const float *dy, const float *x, const float *w, float mix,
                               float *sums) {
  const Layer &layer = inputs.layer;
  for (int64_t row = 0; row < layer.out_height; ++row)
    for (int64_t q = 0; q < layer.out_width; q += kLanes) {
      const int64_t count = layer.out_width - q;
      const Vec g = LoadFirst(dy + row * layer.out_width + q, count), linear = g * mix, sign = g * (mix - 1.0f);
      const float *window = x + inputs.At(row, q);
      for (int64_t k = 0; k < layer.taps; ++k) {
        const Vec v = LoadFirst(window + inputs.offsets[k], count);
        Vec sum = Load(sums + k * kLanes) + linear * (v - w[k]);
        if (mixed) sum = AddSign(sum, sign, w + k, v);  // the sign of w - v
        Store(sums + k * kLanes, sum);
      }
    }
}

struct Tap {
  int64_t weight, offset;  // its index in the window; where the outputs that it is for start
};

// Planes of dy as the inputs read them, from the first that any input sees on.
struct Outputs {
  const Layer &layer;
  const int64_t first = CeilDiv(layer.padding - (layer.kernel - 1), layer.stride);
  const int64_t more = (layer.padding + layer.stride - 1) / layer.stride - first;  // than there are steps in an image
  const Band band = {first, first, CeilDiv(layer.height, layer.stride) + more,
                     CeilDiv(layer.width, layer.stride) + more, 1, 1};
  std::vector<std::vector<Tap>> phases = {};  // that read the inputs from (row, col) on, a stride apart

  explicit Outputs(const Layer &of) : layer(of) {
    for (int64_t row = 0; row < layer.stride; ++row)
      for (int64_t col = 0; col < layer.stride; ++col) phases.push_back(Taps(row + layer.padding, col + layer.padding));
  }

  std::vector<Tap> Taps(int64_t row, int64_t col) const {
    std::vector<Tap> taps;
    for (int64_t i = row % layer.stride; i < layer.kernel; i += layer.stride)
      for (int64_t j = col % layer.stride; j < layer.kernel; j += layer.stride)
        taps.push_back({i * layer.kernel + j,
                        band.At((row - i) / layer.stride - first, (col - j) / layer.stride - first)});
    return taps;
  }
};

// dx = sum dy * d, d = w - x, which norm 1 clips to -1 .. 1, of all inputs of a plane, which has `filters` filters.
template <int norm, int kStride>
NO_INLINE void InputGradPlane(const Outputs &outputs, const float *dy, const float *x, const float *w, float *dx) {
  const Layer &layer = outputs.layer;
  const int64_t stride = kStride ? kStride : layer.stride, pitch = outputs.band.Pitch();
  const Vec one = Splat(1.0f);
  for (int64_t row = 0; row < layer.height; ++row)
    for (int64_t phase = 0; phase < stride; ++phase) {
      const float *const xs = x + row * layer.width + phase, *dys = dy + row / stride * outputs.band.RowPitch();
      float *const out = dx + row * layer.width + phase;
      const std::vector<Tap> &taps = outputs.phases[row % stride * stride + phase];
      const int64_t columns = CeilDiv(layer.width - phase, stride);
      for (int64_t q = 0; q < columns; q += kLanes, dys += kLanes) {
        const Vec v = LoadStrided<kStride>(xs + q * stride, stride, columns - q);
        Vec sum = {};
        for (int64_t f = 0; f < layer.filters; ++f)
          for (const Tap &tap : taps) {
            const Vec d = w[f * layer.taps + tap.weight] - v;
            const Vec slope = norm == 1 ? Max(-one, Min(one, d)) : d;  // in this order a NaN passes through
            sum += Load(dys + f * pitch + tap.offset) * slope;
          }
        if (kStride == 1) StoreFirst(out + q, sum, columns - q);
        else for (int64_t i = 0; i < std::min<int64_t>(columns - q, kLanes); ++i) out[(q + i) * stride] = sum[i];
      }
    }
}

}  // namespace

void DepthwiseForward(const Layer &layer, const float *x, const float *w, const Epilogue &epilogue, float *y) {
  const Inputs inputs(layer);
  const int64_t size = layer.out_height * layer.out_width;
  const auto run = layer.norm == 1 ? ForwardPlane<1> : ForwardPlane<2>;
  Threads::ForEach(layer.threads, layer.batch * layer.groups, [&](int64_t plane) {
    const float *xs = inputs.Pack(x + plane * layer.height * layer.width);
    float *sums = scratch_out.Get(size + kLanes);
    for (int64_t i = 0; i < layer.filters; ++i) {
      const int64_t f = plane % layer.groups * layer.filters + i;
      run(inputs, xs, w + f * layer.taps, sums);
      epilogue.Apply(sums, layer.norm == 1 ? -1.0f : -0.5f, size, f, (plane * layer.filters + i) * size, y);
    }
  });
}

void DepthwiseInputGrad(const Layer &layer, const float *dy, const float *x, const float *w, float *dx) {
  const Outputs outputs(layer);
  const int64_t size = layer.height * layer.width, out_size = layer.out_height * layer.out_width;
  const auto run = layer.norm == 1 ? layer.stride == 1 ? InputGradPlane<1, 1> : InputGradPlane<1, 0>
                                   : layer.stride == 1 ? InputGradPlane<2, 1> : InputGradPlane<2, 0>;
  Threads::ForEach(layer.threads, layer.batch * layer.groups, [&](int64_t plane) {
    float *dys = scratch_dy.Get(layer.filters * outputs.band.Pitch());
    for (int64_t f = 0; f < layer.filters; ++f)
      outputs.band.Pack(Plane{dy + (plane * layer.filters + f) * out_size, 0.0f}, layer.out_height, layer.out_width,
                        0.0f, dys + f * outputs.band.Pitch());
    run(outputs, dys, x + plane * size, w + layer.InW(plane % layer.groups), dx + plane * size);
  });
}

void DepthwiseWeightGrad(const Layer &layer, const float *dy, const float *x, const float *w, float mix, float *dw) {
  const Inputs inputs(layer);
  const int64_t size = layer.out_height * layer.out_width, weights = layer.filters * layer.taps;
  const auto run = mix == 1.0f ? WeightGradPlane<false> : WeightGradPlane<true>;
  Threads::ForEach(layer.threads, layer.groups, [&](int64_t channel) {
    std::vector<double> sums(weights, 0.0);
    float *lanes = scratch_sum.Get(layer.taps * kLanes);
    for (int64_t plane = channel; plane < layer.batch * layer.groups; plane += layer.groups) {
      const float *xs = inputs.Pack(x + plane * layer.height * layer.width);
      for (int64_t f = 0; f < layer.filters; ++f) {
        Fill(lanes, layer.taps * kLanes, 0.0f);
        run(inputs, dy + (plane * layer.filters + f) * size, xs, w + channel * weights + f * layer.taps, mix, lanes);
        for (int64_t k = 0; k < layer.taps; ++k) sums[f * layer.taps + k] += Reduce(Load(lanes + k * kLanes));
      }
    }
    std::copy(sums.begin(), sums.end(), dw + channel * weights);
  });
}
