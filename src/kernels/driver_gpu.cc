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
// Opens NVIDIA's driver with the kernels for GPU.

#include "driver.h"

#include <string>

std::unique_ptr<const Driver> driver;

extern "C" {

// Has to be called before all others: the driver's library, the kernels as PTX, and the device's number. Returns null,
// or what went wrong.
const char *OpenDriver(const char *library, const char *ptx, int device) {
  static std::string message;
  try {
    driver = std::make_unique<Driver>(library, ptx, device);
    return nullptr;
  } catch (const std::exception &error) {
    message = error.what();
    return message.c_str();
  }
}

}  // extern "C"
