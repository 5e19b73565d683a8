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
// The adder layer's functions on a GPU, by the names and with the tensors of those on CPU, see adder_*_cpu.cc. They
// launch the kernels of *_gpu.cu on MindSpore's stream and do not wait.

#include <string>

#include "abi.h"
#include "driver.h"
#include "layer.h"
#include "plan_gpu.h"

namespace {

void Run(const std::string &kernel, const Plan &plan, void *stream) {
  Call call = plan.call;
  driver->Launch(kernel + (plan.positions == kManyPositions ? "Large" : plan.each == 1 ? "Single" : ""), plan.blocks,
                 plan.threads, plan.shared, &call, stream);
}

void Forward(const Tensor &x, const Tensor &w, const Tensor &geometry, Plan plan, const Tensor &y, void *stream) {
  plan.call.x = x.Data();
  plan.call.w = w.Data();
  plan.call.out = y.Data();
  Run("Forward" + std::to_string(LayerOf(x, w, geometry).norm), plan, stream);
}

// Sums of one kind over shares, and what they make of dw.
void SumAndCombine(const std::string &sums, const Plan &plan, void *stream) {
  Run(sums, plan, stream);
  Plan combine = plan;
  combine.blocks = CombinersOf(plan);
  combine.threads = kCombined * kCombiners;
  combine.shared = 2 * combine.threads * sizeof(float);
  Run("Combine" + sums, combine, stream);
}

}  // namespace

extern "C" {

int AdderForward(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *) {
  return Guarded({count, data, ranks, shapes, types}, [stream](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), geometry = arguments.Next(), y = arguments.Next();
    Forward(x, w, geometry, ForwardPlan(LayerOf(x, w, geometry)), y, stream);
  });
}

int AdderFolded(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *) {
  return Guarded({count, data, ranks, shapes, types}, [stream](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), scale = arguments.Next(), shift = arguments.Next();
    const Tensor shortcut = arguments.NextBefore(2), geometry = arguments.Next(), y = arguments.Next();
    Plan plan = ForwardPlan(LayerOf(x, w, geometry));
    plan.call.scale = scale.Data();
    plan.call.shift = shift.Data();
    plan.call.shortcut = shortcut.Data();
    plan.call.relu = geometry.shape[3] > 1;
    Forward(x, w, geometry, plan, y, stream);
  });
}

int AdderInputGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *) {
  return Guarded({count, data, ranks, shapes, types}, [stream](Arguments &arguments) {
    const Tensor dy = arguments.Next(), x = arguments.Next(), w = arguments.Next(), geometry = arguments.Next();
    const Tensor dx = arguments.Next();
    const Layer layer = LayerOf(x, w, geometry);
    Plan plan = InputGradPlan(layer);
    plan.call.dy = dy.Data();
    plan.call.x = x.Data();
    plan.call.w = w.Data();
    plan.call.out = dx.Data();
    Run("InputGrad" + std::to_string(layer.norm), plan, stream);
  });
}

// Whether mix is 1 or 0 only the GPU knows: kernels that have nothing to do return at once.
int AdderWeightGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *stream, void *) {
  return Guarded({count, data, ranks, shapes, types}, [stream](Arguments &arguments) {
    const Tensor dy = arguments.Next(), x = arguments.Next(), w = arguments.Next(), mix = arguments.Next();
    const Tensor geometry = arguments.Next(), dw = arguments.Next();
    const Layer layer = LayerOf(x, w, geometry);
    if (layer.groups * layer.filters * layer.taps == 0) return;
    Plan products = WeightGradPlan(layer, kLanes), signs = WeightGradPlan(layer, kSignLanes);
    const int64_t dy_sums = products.call.shares * layer.groups * products.call.dy_filters;
    const Scratch scratch(SumsOf(products) + SumsOf(signs) + dy_sums, stream);
    signs.call.dy_shares = products.call.shares;
    signs.call.dy_filters = products.call.dy_filters;
    products.call.sums = scratch.Data();
    signs.call.sums = scratch.Data() + SumsOf(products);
    for (Call *call : {&products.call, &signs.call}) {
      call->dy = dy.Data();
      call->x = x.Data();
      call->w = w.Data();
      call->mix = mix.Data();
      call->out = dw.Data();
      call->dy_sums = scratch.Data() + SumsOf(products) + SumsOf(signs);
    }
    SumAndCombine("Products", products, stream);
    SumAndCombine("Signs", signs, stream);
  });
}

}  // extern "C"
