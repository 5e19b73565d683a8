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
// A stage of a residual network in an evaluation: folded layers, each of which reads what the stage was given or what an
// earlier one gives, in one call. Between two operators MindSpore needs longer than a layer of a single image takes; and
// the layers of a batch each read from memory what they here find in the cache.
//
// Images are shared out among threads, which take each of them through all layers. Where there are more threads than
// images, all take the tiles of a layer, then those of the next.
#ifndef ADDERNGD_STAGE_H_
#define ADDERNGD_STAGE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "abi.h"
#include "epilogue.h"
#include "forward.h"
#include "layer.h"
#include "packing.h"
#include "threads.h"

// A layer, as it is written in `program`; input 0 is the stage's, input i + 1 what layer i gives. Without a shortcut it
// is -1.
struct Step {
  int32_t filters, kernel, stride, padding, norm, relu, source, shortcut;
};

inline thread_local Scratch scratch_maps;

template <typename Numbers>
class Stage {
 public:
  // x [N, C, H, W]; values [n], w, scale and shift of each layer, one behind the other; program [layers, 8] int32.
  Stage(const Tensor &x, const Tensor &values, const Tensor &program)
      : batch_(x.shape[0]), steps_(program.Data<Step>(), program.Data<Step>() + program.shape[0]) {
    PlanLayers(x.shape, values.Data());
    PlanPlaces();
    int64_t pairs = 0;
    for (const Layer &layer : layers_) pairs += layer.Pairs();
    shared_ = batch_ < WorthWaking(batch_ * pairs);
    threads_ = WorthWaking(shared_ ? pairs : batch_ * pairs);
    forward_.resize(steps_.size());
    Threads::ForEach(threads_, steps_.size(), [&](int64_t i) {
      layers_[i].threads = shared_ ? threads_ : 1;
      forward_[i] = std::make_unique<Forward<Numbers>>(layers_[i], 0, weights_[i]);
    });
  }

  void Run(const float *x, float *y) {
    const int64_t in = layers_[0].channels * layers_[0].height * layers_[0].width, out = Size(steps_.size() - 1);
    const auto image = [=](int64_t n, auto run) { WithMaps(x + n * in, y + n * out, run); };
    if (shared_) {
      for (int64_t n = 0; n < batch_; ++n) image(n, [this](const Maps &maps) { ShareImage(maps); });
    } else {
      Threads::ForEach(threads_, batch_, [&](int64_t n) { image(n, [this](const Maps &maps) { RunImage(maps); }); });
    }
  }

 private:
  static constexpr int64_t kLarge = 4 << 20;  // floats that are not kept from call to call
  using Image = typename Forward<Numbers>::Image;

  // Where an image lies, what layers make of it and what the last one does.
  struct Maps { const float *x; float *places, *y; };

  const int64_t batch_;
  const std::vector<Step> steps_;
  std::vector<Layer> layers_;  // of one image
  std::vector<const float *> weights_;
  std::vector<Epilogue> epilogues_;
  std::vector<std::unique_ptr<Forward<Numbers>>> forward_;
  std::vector<int64_t> places_;  // of what the layers give, among those for an image
  int64_t place_count_ = 0, place_size_ = 0, threads_ = 1;
  bool shared_ = false;

  int64_t Size(int64_t i) const { return layers_[i].filters * layers_[i].out_height * layers_[i].out_width; }

  void PlanLayers(const int64_t *x, const float *values) {
    for (const Step &step : steps_) {
      const Layer *const source = step.source > 0 ? &layers_[step.source - 1] : nullptr;
      const int64_t channels = source ? source->filters : x[1];
      const int64_t in[] = {1, channels, source ? source->out_height : x[2], source ? source->out_width : x[3]};
      const int64_t w[] = {step.filters, channels, step.kernel, step.kernel};
      const int64_t geometry[] = {step.stride, step.padding + 1, step.norm};
      layers_.push_back(LayerOf(in, Tensor{nullptr, w, 4}, Tensor{nullptr, geometry, 3}));
      weights_.push_back(values);
      const float *const scale = values + step.filters * layers_.back().taps;
      Epilogue epilogue{scale, scale + step.filters};
      if (step.relu) epilogue.floor = 0.0f;
      epilogues_.push_back(epilogue);
      values = scale + 2 * step.filters;
    }
  }

  // What a layer gives takes a place whose last reader has run before.
  void PlanPlaces() {
    const int64_t count = steps_.size();
    std::vector<int64_t> last(count + 1, 0), free;
    for (int64_t i = 0; i < count; ++i) last[steps_[i].source] = last[std::max(0, steps_[i].shortcut)] = i;
    for (int64_t i = 0; i < count; ++i) {
      if (free.empty()) free.push_back(place_count_++);
      places_.push_back(free.back());
      free.pop_back();
      for (int64_t j = 0; j < i; ++j)
        if (last[j + 1] == i) free.push_back(places_[j]);
      place_size_ = std::max(place_size_, RoundUp(Size(i), kCacheLine));
    }
  }

  float *Output(int64_t i, const Maps &maps) const {
    return i + 1 == static_cast<int64_t>(steps_.size()) ? maps.y : maps.places + places_[i] * place_size_;
  }
  const float *Input(int64_t i, const Maps &maps) const { return i == 0 ? maps.x : Output(i - 1, maps); }

  void RunTile(int64_t i, int64_t tile, const Image &image, const Maps &maps) const {
    Epilogue epilogue = epilogues_[i];
    if (steps_[i].shortcut >= 0) epilogue.shortcut = Input(steps_[i].shortcut, maps);
    forward_[i]->RunTile(image, Input(steps_[i].source, maps), 0, tile, epilogue, Output(i, maps));
  }

  Image ImageOf(int64_t i, const Maps &maps) const { return forward_[i]->Of(Input(steps_[i].source, maps)); }

  // Calls work(maps) with places for what the layers make of an image.
  template <typename Work>
  void WithMaps(const float *x, float *y, Work work) const {
    const int64_t size = place_count_ * place_size_;
    const std::unique_ptr<float[]> large(size > kLarge ? new float[size] : nullptr);
    work(Maps{x, large ? large.get() : scratch_maps.Get(size), y});
  }

  // On this thread alone.
  void RunImage(const Maps &maps) const {
    for (size_t i = 0; i < steps_.size(); ++i) {
      const Image image = ImageOf(i, maps);
      for (int64_t tile = 0; tile < forward_[i]->Tiles(); ++tile) RunTile(i, tile, image, maps);
    }
  }

  // On all threads. They start tiles in order, so that all that a waiting one waits for is being computed.
  void ShareImage(const Maps &maps) const {
    std::vector<int64_t> ends;  // of each layer's tiles, among all
    for (const auto &forward : forward_) ends.push_back((ends.empty() ? 0 : ends.back()) + forward->Tiles());
    std::atomic<int64_t> done{0};
    Once<Image> images(steps_.size());
    Threads::ForEach(threads_, ends.back(), [&](int64_t item) {
      const int64_t i = std::upper_bound(ends.begin(), ends.end(), item) - ends.begin();
      const int64_t first = i > 0 ? ends[i - 1] : 0;
      const Counted counted{done};
      WaitFor(done, first);
      RunTile(i, item - first, images.Get(i, [&] { return ImageOf(i, maps); }), maps);
    });
  }

  // Adds 1 at its end, even where an exception is what ends it: another thread may wait for it.
  struct Counted {
    std::atomic<int64_t> &done;
    ~Counted() { done.fetch_add(1, std::memory_order_release); }
  };

  static void WaitFor(const std::atomic<int64_t> &done, int64_t count) {
    for (int64_t turns = 0; done.load(std::memory_order_acquire) < count; ++turns)
      if (turns > 1000) std::this_thread::yield();  // the other one may want this processor
  }
};

// Inputs x, values and program, see `Stage`; output y [N, F, H', W'], what the last layer gives.
template <typename Numbers>
int RunStage(Arguments arguments) {
  return Guarded(arguments, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), values = arguments.Next(), program = arguments.Next();
    arguments.Next();  // sizes, of which there are none
    const Tensor y = arguments.Next();
    Stage<Numbers>(x, values, program).Run(x.Data(), y.Data());
  });
}

#endif  // ADDERNGD_STAGE_H_
