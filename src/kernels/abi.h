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
// What every function needs that MindSpore calls by its convention for ahead-of-time operators.
#ifndef ADDERNGD_ABI_H_
#define ADDERNGD_ABI_H_

#include <exception>

template <typename Function>
int Guarded(Function function) {
  try {
    function();
    return 0;
  } catch (const std::exception &) {  // out of memory, which MindSpore reports
    return 1;
  }
}

template <typename T = float>
inline const T *In(void **params, int i) { return static_cast<const T *>(params[i]); }
template <typename T = float>
inline T *Out(void **params, int i) { return static_cast<T *>(params[i]); }

#endif  // ADDERNGD_ABI_H_
