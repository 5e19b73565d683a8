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
// A stand-in for NVIDIA's driver that runs kernels on a CPU: the threads of a block are fibers, which take turns from
// barrier to barrier, from the first to the last and back: no result may depend on it. Device memory is the host's.
// Shared memory, and what is allocated, is NaN at first; a block that writes behind its shared memory ends the process.

#include <dlfcn.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cuda_on_cpu.h"

constexpr int kUsualShared = 48 << 10, kSharedSize = 99 << 10;  // as on Ampere; what a kernel has to ask for, at most
constexpr int kStackSize = 128 << 10;

Index threadIdx, blockIdx, blockDim;
float4 memory[kSharedSize / sizeof(float4)];

namespace {

using Kernel = void (*)(const void *);

struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(kStackSize);
  bool done = false;
};

ucontext_t scheduler;
std::vector<Fiber> fibers(1024);
Kernel kernel;
std::string launches;
bool running = true;
int failure = 0;                // of launches and what follows
std::map<void *, int> allowed;  // bytes of shared memory that a kernel has asked for
const void *argument;

void RunThread() {
  kernel(argument);
  fibers[threadIdx.x].done = true;
}

void RunBlock(unsigned threads, size_t shared) {
  std::memset(memory, 0xff, kSharedSize);
  for (unsigned i = 0; i < threads; ++i) {
    Fiber &fiber = fibers[i];
    fiber.done = false;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = kStackSize;
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, RunThread, 0);
  }
  bool waiting = true;
  for (bool backwards = false; waiting; backwards = !backwards) {
    waiting = false;
    for (unsigned i = 0; i < threads; ++i) {
      threadIdx.x = backwards ? threads - 1 - i : i;
      Fiber &fiber = fibers[threadIdx.x];
      if (!fiber.done) swapcontext(&scheduler, &fiber.context);
      waiting |= !fiber.done;
    }
  }
  for (size_t i = shared; i < kSharedSize; ++i)
    if (reinterpret_cast<unsigned char *>(memory)[i] != 0xff) {
      std::fprintf(stderr, "a block of %u threads wrote behind its %zu bytes of shared memory\n", threads, shared);
      std::abort();
    }
}

}  // namespace

void __syncthreads() { swapcontext(&fibers[threadIdx.x].context, &scheduler); }

extern "C" {

// All launches since the last call, a line each: kernel, blocks, threads of a block, bytes of its shared memory, stream.
// From now on kernels run, or do not.
const char *Launches(bool run) {
  static std::string last;
  running = run;
  last.swap(launches);
  launches.clear();
  return last.c_str();
}

// From now on launches, and freeing memory, fail with a code, or do not.
void FailWith(int code) { failure = code; }

int cuInit(unsigned) { return 0; }
int cuDeviceGet(int *device, int number) { return *device = number, number == 0 ? 0 : 101; }  // an invalid device
int cuDevicePrimaryCtxRetain(void **, int) { return 0; }
int cuDeviceGetDefaultMemPool(void **, int) { return 0; }
int cuMemPoolSetAttribute(void *, int, void *) { return 0; }
int cuCtxPushCurrent_v2(void *) { return 0; }
int cuCtxPopCurrent_v2(void **) { return 0; }
int cuGetErrorString(int code, const char **text) {
  *text = code == 101 ? "invalid device ordinal" : nullptr;
  return 0;
}
int cuModuleLoadData(void **, const void *ptx) { return *static_cast<const char *>(ptx) ? 0 : 218; }

// What benchmarks/binding.py calls besides.
int cuCtxSetCurrent(void *) { return 0; }
int cuCtxSynchronize() { return 0; }
int cuDeviceGetName(char *name, int size, int) { return std::snprintf(name, size, "a CPU"), 0; }
int cuDriverGetVersion(int *version) { return *version = 12040, 0; }
int cuMemAlloc_v2(void **data, size_t size) { return *data = std::malloc(size), 0; }
int cuMemFree_v2(void *data) { return std::free(data), 0; }
int cuMemcpyHtoD_v2(void *to, const void *from, size_t size) { return std::memcpy(to, from, size), 0; }
int cuMemcpyDtoH_v2(void *to, const void *from, size_t size) { return std::memcpy(to, from, size), 0; }

int cuMemFreeAsync(float *data, void *) { return std::free(data), failure; }
int cuMemAllocAsync(float **data, size_t size, void *) {
  *data = static_cast<float *>(std::malloc(size));
  std::memset(*data, 0xff, size);
  return 0;
}
int cuModuleGetFunction(void **function, void *, const char *name) {
  Dl_info self = {};
  dladdr(reinterpret_cast<void *>(&cuInit), &self);
  *function = dlsym(dlopen(self.dli_fname, RTLD_NOW), name);
  return *function ? 0 : 500;
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
  allowed[function] = value;
  return attribute != 8 || value > kSharedSize;
}
int cuLaunchKernel(void *function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned,
                   unsigned shared, void *stream, void **arguments, void **) {
  if (failure) return failure;
  const unsigned most = std::max(kUsualShared, allowed[function]);
  if (threads < 1 || threads > fibers.size() || shared > most) return 1;
  Dl_info own = {};
  dladdr(function, &own);
  launches += std::string(own.dli_sname) + " " + std::to_string(blocks) + " " + std::to_string(threads) + " " +
              std::to_string(shared) + " " + std::to_string(reinterpret_cast<intptr_t>(stream)) + "\n";
  if (!running) return 0;
  kernel = reinterpret_cast<Kernel>(function);
  argument = arguments[0];
  blockDim.x = threads;
  for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x) RunBlock(threads, shared);
  return 0;
}

}  // extern "C"
