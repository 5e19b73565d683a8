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
// The sizes of one adder layer.
#ifndef ADDERNGD_LAYER_H_
#define ADDERNGD_LAYER_H_

#include <algorithm>
#include <cstdint>

#include "abi.h"
#include "threads.h"

constexpr int64_t kThreadWork = 4 << 20;  // pairs (x, w) that a thread should have: about 0.1 ms

// One group of a layer's channels and filters. All groups are alike, and lie side by side in each image.
struct Layer {
  int64_t batch, channels, height, width;  // x [N, C, H, W]
  int64_t filters, kernel;                 // w [F, C, k, k]
  int64_t stride, padding, norm, groups;
  int64_t out_height, out_width;           // y [N, F, H', W']
  int64_t taps;                            // of a filter: C * k * k
  int64_t threads;                         // that are worth waking; for all groups of a depthwise layer

  int64_t Pairs() const { return batch * filters * out_height * out_width * taps; }  // (x, w)
  bool Empty() const { return Pairs() == 0; }
  bool Depthwise() const { return groups > 1 && channels == 1; }
  // Of all groups.
  int64_t AllChannels() const { return groups * channels; }
  int64_t AllFilters() const { return groups * filters; }
  // Where group g starts in x, w and y.
  int64_t InX(int64_t g) const { return g * channels * height * width; }
  int64_t InW(int64_t g) const { return g * filters * taps; }
  int64_t InY(int64_t g) const { return g * filters * out_height * out_width; }
};

// Places of a window, none if it does not fit.
inline int64_t OutputSize(int64_t size, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t room = size + 2 * padding - kernel;
  return room < 0 ? 0 : room / stride + 1;
}

inline int64_t WorthWaking(int64_t work) { return std::min(Threads::Count(), 1 + work / kThreadWork); }

// Of the shapes of x [N, G * C, H, W] and w [G * F, C, k, k], for G groups, and of the geometry: a tensor whose values
// nobody reads, of shape [stride, padding + 1] or [stride, padding + 1, norm, ...]. Whatever the device, the host knows
// shapes.
inline Layer LayerOf(const int64_t *x, const Tensor &w, const Tensor &geometry) {
  Layer layer;
  layer.batch = x[0];
  layer.channels = w.shape[1];
  layer.groups = layer.channels > 0 ? std::max<int64_t>(1, x[1] / layer.channels) : 1;
  layer.height = x[2];
  layer.width = x[3];
  layer.filters = w.shape[0] / layer.groups;
  layer.kernel = w.shape[2];
  layer.stride = geometry.shape[0];
  layer.padding = geometry.shape[1] - 1;
  layer.norm = geometry.rank > 2 ? geometry.shape[2] : 1;
  // A longer step than from the first place of a window to the last makes no difference, and costs its square.
  const int64_t room = std::max(layer.height, layer.width) + 2 * layer.padding - layer.kernel;
  layer.stride = std::min(layer.stride, std::max<int64_t>(0, room) + 1);
  layer.out_height = OutputSize(layer.height, layer.kernel, layer.stride, layer.padding);
  layer.out_width = OutputSize(layer.width, layer.kernel, layer.stride, layer.padding);
  layer.taps = layer.channels * layer.kernel * layer.kernel;
  layer.threads = WorthWaking((layer.Depthwise() ? layer.groups : 1) * layer.Pairs());
  return layer;
}
inline Layer LayerOf(const Tensor &x, const Tensor &w, const Tensor &geometry) { return LayerOf(x.shape, w, geometry); }

// The same where x is [N, H, W, C].
inline Layer ChannelsLastLayerOf(const Tensor &x, const Tensor &w, const Tensor &geometry) {
  const int64_t shape[] = {x.shape[0], x.shape[3], x.shape[1], x.shape[2]};
  return LayerOf(shape, w, geometry);
}

// Calls work(g) for each group: one after the other where each is worth several threads, else shared out among them.
template <typename Work>
void ForEachGroup(const Layer &layer, Work work) {
  Threads::ForEach(layer.threads > 1 ? 1 : WorthWaking(layer.groups * layer.Pairs()), layer.groups, work);
}

#endif  // ADDERNGD_LAYER_H_
