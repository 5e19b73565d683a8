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
// What happens to the sums of an adder layer on their way to memory.
#ifndef ADDERNGD_EPILOGUE_H_
#define ADDERNGD_EPILOGUE_H_

#include <cstdint>
#include <limits>

#include "simd.h"

// y = max(floor, scale * response + shift + shortcut).
struct Epilogue {
  const float *scale = nullptr, *shift = nullptr;  // per filter; 1 and 0 if there are none
  const float *shortcut = nullptr;                 // as y, if there is one
  float floor = -std::numeric_limits<float>::infinity();

  // To y[at], y[at + 1], ..., of filter f, whose responses are `unit` times the sums.
  void Apply(const float *sums, float unit, int64_t count, int64_t f, int64_t at, float *y) const {
    const float factor = scale ? unit * scale[f] : unit, constant = shift ? shift[f] : 0.0f;
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) {
      Vec value = Load(sums + i) * factor + constant;
      if (shortcut) value += Load(shortcut + at + i);
      Store(y + at + i, Max(Splat(floor), value));
    }
    if (i == count) return;
    Vec value = Load(sums + i) * factor + constant;
    if (shortcut) value += LoadFirst(shortcut + at + i, count - i);
    StoreFirst(y + at + i, Max(Splat(floor), value), count - i);
  }
};

#endif  // ADDERNGD_EPILOGUE_H_
