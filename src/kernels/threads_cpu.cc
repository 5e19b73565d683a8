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
// Threads that sleep between two loops, for MindSpore's own threads want the processor: OpenMP's, which go on spinning
// for a while, made a training step take a fifth longer. To wake one takes 30 microseconds, half of what a layer of a
// single image takes. So they stay awake for a little longer than that, after loops that were short.

#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace {

std::atomic<int64_t> thread_count{std::max<int64_t>(1, std::thread::hardware_concurrency())};

using Clock = std::chrono::steady_clock;
constexpr std::chrono::microseconds kShort(500), kAwake(50);

// Waits for a little while, if the loop that began then was short; what it waits for may not have come afterwards.
template <typename Ready>
void StayAwake(Clock::time_point begin, Ready ready) {
  const auto now = Clock::now();
  if (now - begin > kShort) return;
  for (const auto end = now + kAwake; !ready() && Clock::now() < end;) {
  }
}

class Pool {
 public:
  void ForEach(int64_t threads, int64_t items, const std::function<void(int64_t)> &work) {
    std::lock_guard<std::mutex> one_loop(loop_mutex_);
    Run(std::max<int64_t>(0, std::min(threads, items) - 1), items, work);
  }

 private:
  std::mutex loop_mutex_, mutex_;
  std::condition_variable wake_, done_;
  int64_t workers_ = 0;
  std::atomic<int64_t> round_{0};
  // The current loop: what to do how often, how many workers may join while it is open, and how many are at it.
  const std::function<void(int64_t)> *work_ = nullptr;
  int64_t items_ = 0, wanted_ = 0;
  bool open_ = false;
  std::atomic<int64_t> next_{0}, running_{0};
  std::exception_ptr error_;

  void Run(int64_t workers, int64_t items, const std::function<void(int64_t)> &work) {
    for (; workers_ < workers; ++workers_)
      std::thread([this, i = workers_, r = round_.load()] { Work(i, r); }).detach();
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      items_ = items;
      wanted_ = workers;
      next_ = 0;
      error_ = nullptr;
      open_ = true;
      ++round_;
    }
    if (workers > 0) wake_.notify_all();
    const auto begin = Clock::now();
    Loop();
    StayAwake(begin, [this] { return running_ == 0; });
    std::unique_lock<std::mutex> lock(mutex_);
    open_ = false;  // a worker that is still waking up is not waited for
    done_.wait(lock, [this] { return running_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

  void Work(int64_t index, int64_t round) {
    Clock::time_point begin{};
    for (;;) {
      StayAwake(begin, [&] { return round_ != round; });
      std::unique_lock<std::mutex> lock(mutex_);
      wake_.wait(lock, [&] { return round_ != round; });
      round = round_;
      begin = {};
      if (!open_ || index >= wanted_) continue;
      ++running_;
      lock.unlock();
      begin = Clock::now();
      Loop();
      lock.lock();
      if (--running_ == 0) done_.notify_one();
    }
  }

  void Loop() {
    try {
      for (int64_t i = next_++; i < items_; i = next_++) (*work_)(i);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
      next_ = items_;
    }
  }
};

}  // namespace

int64_t Threads::Count() { return thread_count; }

void Threads::ForEach(int64_t threads, int64_t items, const std::function<void(int64_t)> &work) {
  if (threads <= 1) {
    for (int64_t i = 0; i < items; ++i) work(i);
    return;
  }
  static Pool *const pool = new Pool;  // never destroyed: the workers wait in it until the process ends
  pool->ForEach(threads, items, work);
}

// Sets how many threads the functions of this library use. MindSpore gives no number, and changes OMP_NUM_THREADS.
extern "C" void SetThreads(int64_t count) { thread_count = std::max<int64_t>(1, count); }
