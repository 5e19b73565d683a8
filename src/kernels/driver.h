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
// NVIDIA's driver, loaded when it is wanted: no CUDA toolkit is needed, and none of its versions has to fit.
#ifndef ADDERNGD_DRIVER_H_
#define ADDERNGD_DRIVER_H_

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

class Driver {
 public:
  // Loads a driver, and into it a module of kernels; `device` counts from 0.
  Driver(const char *library, const char *ptx, int device) : library_(dlopen(library, RTLD_NOW)) {
    if (!library_) throw std::runtime_error("no NVIDIA driver: " + std::string(dlerror()));
    int handle = 0;
    void *pool = nullptr;
    uint64_t all = ~0ull;
    Call<unsigned>("cuInit", 0);
    Call<int *, int>("cuDeviceGet", &handle, device);
    Call<void **, int>("cuDevicePrimaryCtxRetain", &context_, handle);
    const Current current(*this);
    Call<void **, const void *>("cuModuleLoadData", &module_, ptx);
    Call<void **, int>("cuDeviceGetDefaultMemPool", &pool, handle);
    Call<void *, int, void *>("cuMemPoolSetAttribute", pool, kReleaseThreshold, &all);  // keep freed memory for later
  }

  // Memory for what is launched on a stream until Free is.
  float *Allocate(size_t floats, void *stream) const {
    const Current current(*this);
    float *memory = nullptr;
    Call<float **, size_t, void *>("cuMemAllocAsync", &memory, floats * sizeof(float), stream);
    return memory;
  }
  void Free(float *memory, void *stream) const noexcept {
    try {
      const Current current(*this);
      Call<float *, void *>("cuMemFreeAsync", memory, stream);
    } catch (const std::runtime_error &) {  // what broke before, of which the launch tells
    }
  }

  // Runs a kernel that takes one argument; shared: bytes of each block's shared memory.
  void Launch(const std::string &kernel, int64_t blocks, int64_t threads, int64_t shared, void *argument,
              void *stream) const {
    if (blocks == 0) return;
    const Current current(*this);
    void *function = nullptr, *arguments[] = {argument};
    Call<void **, void *, const char *>("cuModuleGetFunction", &function, module_, kernel.c_str());
    if (shared > kUsualShared) Call<void *, int, int>("cuFuncSetAttribute", function, kMaxDynamicShared, shared);
    Call<void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **>(
        "cuLaunchKernel", function, blocks, 1, 1, threads, 1, 1, shared, stream, arguments, nullptr);
  }

 private:
  static constexpr int64_t kUsualShared = 48 << 10;  // more has to be asked for, by
  static constexpr int kMaxDynamicShared = 8;        // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
  static constexpr int kReleaseThreshold = 4;        // CU_MEMPOOL_ATTR_RELEASE_THRESHOLD

  void *const library_;
  void *context_ = nullptr, *module_ = nullptr;

  // Makes the device's context, which it shares with CUDA's runtime, that of this thread for a while.
  struct Current {
    const Driver &driver;
    explicit Current(const Driver &driver) : driver(driver) {
      driver.Call<void *>("cuCtxPushCurrent_v2", driver.context_);
    }
    ~Current() {
      void *context = nullptr;
      driver.Function<void **>("cuCtxPopCurrent_v2")(&context);
    }
  };

  template <typename... Types>
  int (*Function(const char *name) const)(Types...) {
    void *const found = dlsym(library_, name);
    if (!found) throw std::runtime_error("the NVIDIA driver is too old: it has no " + std::string(name));
    return reinterpret_cast<int (*)(Types...)>(found);
  }

  template <typename... Types>
  void Call(const char *name, Types... arguments) const {
    const int code = Function<Types...>(name)(arguments...);
    if (code == 0) return;
    const char *text = nullptr;
    Function<int, const char **>("cuGetErrorString")(code, &text);
    throw std::runtime_error(std::string(name) + ": " + (text ? text : "error " + std::to_string(code)));
  }
};

extern std::unique_ptr<const Driver> driver;  // opened by OpenDriver, before all else

// Memory on the GPU for as long as a stream has to do.
class Scratch {
 public:
  Scratch(int64_t floats, void *stream) : stream_(stream), data_(driver->Allocate(floats, stream)) {}
  ~Scratch() { driver->Free(data_, stream_); }
  float *Data() const { return data_; }

 private:
  void *const stream_;
  float *const data_;
};

#endif  // ADDERNGD_DRIVER_H_
