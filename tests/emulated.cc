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
// Calls the kernels for another process, on the processor that an emulator plays. It reads a name, the number of tensors
// and, of each, type, rank, shape and values, and answers with the exit code and the values, until its input ends.

#include <cstdint>
#include <iostream>
#include <map>
#include <string>
#include <vector>

using Function = int(int, void **, int *, int64_t **, const char **, void *, void *);

// KERNELS lists all functions, as KERNEL(AdderForward) KERNEL(AdderInputGrad) ...
#define KERNEL(name) Function name;
extern "C" {
KERNELS
}
#undef KERNEL

#define KERNEL(name) {#name, name},
const std::map<std::string, Function *> kernels = {KERNELS};

struct Values {
  std::string type, bytes;
  std::vector<int64_t> shape;
};

std::istream &operator>>(std::istream &in, Values &values) {
  size_t rank, size;
  in >> values.type >> rank;
  values.shape.resize(rank);
  for (int64_t &each : values.shape) in >> each;
  in >> size;
  in.get();  // the end of the line
  values.bytes.resize(size);
  return in.read(values.bytes.data(), size);
}

int main() {
  std::ios::sync_with_stdio(false);
  for (std::string name; std::cin >> name;) {
    int count;
    std::cin >> count;
    std::vector<Values> tensors(count);
    std::vector<void *> data;
    std::vector<int> ranks;
    std::vector<int64_t *> shapes;
    std::vector<const char *> types;
    for (Values &each : tensors) {
      std::cin >> each;
      data.push_back(each.bytes.data());
      ranks.push_back(each.shape.size());
      shapes.push_back(each.shape.data());
      types.push_back(each.type.c_str());
    }
    const int code = kernels.at(name)(count, data.data(), ranks.data(), shapes.data(), types.data(), nullptr, nullptr);
    std::cout << code << "\n";
    for (const Values &each : tensors) std::cout << each.bytes;
    std::cout.flush();
  }
}
