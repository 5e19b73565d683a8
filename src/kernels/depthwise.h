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
// Depthwise adder layers, where every group has one channel; see adder_depthwise_cpu.cc. Tensors as in the functions
// for other layers.
#ifndef ADDERNGD_DEPTHWISE_H_
#define ADDERNGD_DEPTHWISE_H_

#include "epilogue.h"
#include "layer.h"

void DepthwiseForward(const Layer &layer, const float *x, const float *w, const Epilogue &epilogue, float *y);
void DepthwiseInputGrad(const Layer &layer, const float *dy, const float *x, const float *w, float *dx);
void DepthwiseWeightGrad(const Layer &layer, const float *dy, const float *x, const float *w, float mix, float *dw);

#endif  // ADDERNGD_DEPTHWISE_H_
