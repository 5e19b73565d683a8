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
// MindSpore's calling convention for ahead-of-time operators: tensors, inputs before outputs.
#ifndef ADDERNGD_ABI_H_
#define ADDERNGD_ABI_H_

#include <cstdint>
#include <cstdio>
#include <exception>

struct Tensor {
  void *data = nullptr;
  const int64_t *shape = nullptr;
  int rank = 0;
  const char *type = "";  // of its values, such as "float32"

  template <typename T = float>
  T *Data() const { return static_cast<T *>(data); }
};

// The arguments of a call, taken one after the other.
class Arguments {
 public:
  Arguments(int count, void **data, const int *ranks, int64_t **shapes, const char **types)
      : count_(count), data_(data), ranks_(ranks), shapes_(shapes), types_(types) {}

  Tensor Next() {
    const int i = next_++;
    return {data_[i], shapes_[i], ranks_[i], types_[i]};
  }
  // The next one, unless only `rest` are left.
  Tensor NextBefore(int rest) { return count_ - next_ > rest ? Next() : Tensor{}; }

 private:
  const int count_;
  void **const data_;
  const int *const ranks_;
  int64_t **const shapes_;
  const char **const types_;
  int next_ = 0;
};

// Calls function(arguments); returns 0, or 1 after a line on stderr that says what went wrong.
template <typename Function>
int Guarded(Arguments arguments, Function function) {
  try {
    function(arguments);
    return 0;
  } catch (const std::exception &error) {  // such as memory that ran out; MindSpore raises an error of its own
    std::fprintf(stderr, "adder kernel: %s\n", error.what());
    return 1;
  }
}

#endif  // ADDERNGD_ABI_H_
