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
// Loops shared out among threads, and what they share.
#ifndef ADDERNGD_THREADS_H_
#define ADDERNGD_THREADS_H_

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

class Threads {
 public:
  // How many there may be: what SetThreads was last called with, at first as many as there are processors.
  static int64_t Count();

  // Calls work(i) for each i < items, on this thread and others, `threads` in all. They start items in increasing order,
  // so that work(i) may wait for what smaller ones do. One loop at a time, but for those of a single thread, which may
  // stand inside others; rethrows the first exception, when all threads are done.
  static void ForEach(int64_t threads, int64_t items, const std::function<void(int64_t)> &work);
};

// What is computed once for each of several items, by whichever thread wants it first.
template <typename T>
class Once {
 public:
  explicit Once(int64_t items) : known_(items), values_(items) {}

  template <typename Make>
  const T &Get(int64_t i, Make make) {
    std::call_once(known_[i], [&] { values_[i] = make(); });
    return values_[i];
  }

 private:
  std::vector<std::once_flag> known_;
  std::vector<T> values_;
};

#endif  // ADDERNGD_THREADS_H_
