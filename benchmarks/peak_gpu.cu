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
// What this GPU can do at most: the instructions of the inner loops, and nothing else.

namespace {

constexpr int kSums = 32;

// sum = step(sum, x, w), `rounds` times over independent sums with a w each; x is new in every round, which takes one
// addition more.
template <typename Step>
__device__ inline void Repeat(float *values, int rounds, Step step) {
  float sum[kSums] = {}, w[kSums], x = values[0];
  const float change = values[1];
  for (int k = 0; k < kSums; ++k) w[k] = values[2 + k];
  for (int i = 0; i < rounds; ++i, x += change) {
#pragma unroll
    for (int k = 0; k < kSums; ++k) sum[k] = step(sum[k], x, w[k]);
  }
  for (int k = 0; k < kSums; ++k)
    if (sum[k] == 0.123f) values[0] = sum[k];  // hardly ever
}

}  // namespace

extern "C" {

// A convolution, and the filters' gradient: one multiply-add.
__global__ void __launch_bounds__(128) MultiplyAdd(float *values, int rounds) {
  Repeat(values, rounds, [](float sum, float x, float w) { return sum + x * w; });
}

// The forward pass of an adder layer: two additions.
__global__ void __launch_bounds__(128) Distance(float *values, int rounds) {
  Repeat(values, rounds, [](float sum, float x, float w) { return sum + fabsf(x - w); });
}

// The gradient of its input: two multiply-adds, of which one clips.
__global__ void __launch_bounds__(128) Clipped(float *values, int rounds) {
  Repeat(values, rounds, [](float sum, float x, float w) { return sum + x * __saturatef(0.5f * w + x); });
}

}  // extern "C"
