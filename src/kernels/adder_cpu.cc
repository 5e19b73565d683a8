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
// Adder layer on CPU: y = -sum |x - w| and AdderNet's two gradients (arXiv 1912.13200, eqs. 2, 5, 6).
//
// No patches are ever copied. Every image is zero-padded and flattened row by row, so that moving the window is moving
// a pointer: output q = i * cols + j reads input q + offset(tap). Outputs are computed for the whole padded width and
// cropped when they are stored. A stride s splits the padded image into its s x s phases (rows r, r+s, r+2s, ... and
// columns likewise); inside a phase the window moves by one, so stride 2 costs no more than stride 1. Several small
// images are laid end to end in one tile, which keeps the vectors full on 8x8 maps.
//
// Tiles are independent and are shared out among OpenMP threads; no result depends on how many threads there are.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

// One source for every vector width: the compiler lowers vector types to AVX-512, AVX, NEON or anything else it knows.
// Only minimum and maximum are spelt out, since GCC makes two instructions of `a < b ? a : b`.
#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
typedef __m512 Vec;
inline Vec Min(Vec a, Vec b) { return _mm512_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm512_max_ps(a, b); }
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
typedef __m256 Vec;
inline Vec Min(Vec a, Vec b) { return _mm256_min_ps(a, b); }
inline Vec Max(Vec a, Vec b) { return _mm256_max_ps(a, b); }
#elif defined(__aarch64__)
constexpr int kLanes = 4, kRegisters = 32;
typedef float32x4_t Vec;
inline Vec Min(Vec a, Vec b) { return vminq_f32(a, b); }
inline Vec Max(Vec a, Vec b) { return vmaxq_f32(a, b); }
#else
constexpr int kLanes = 4, kRegisters = 16;
typedef float Vec __attribute__((vector_size(16)));
inline Vec Min(Vec a, Vec b) { return a < b ? a : b; }
inline Vec Max(Vec a, Vec b) { return a > b ? a : b; }
#endif
typedef int32_t Mask __attribute__((vector_size(4 * kLanes)));
typedef float VecUnaligned __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

// Register blocks: accumulators plus operands fill the register file.
constexpr int kFilters = kRegisters == 32 ? 8 : 4;    // forward: filters x vectors of outputs
constexpr int kVectors = 3;
constexpr int kChannels = kRegisters == 32 ? 4 : 2;   // input gradient: channels x vectors of inputs
constexpr int kInputVectors = 2;
constexpr int kRows = kRegisters == 32 ? 4 : 2;       // weight gradient: filters x taps
constexpr int kTaps = kRegisters == 32 ? 6 : 4;
constexpr int64_t kBlock = 6 * kLanes;                // a tile is whole blocks for kVectors and for kInputVectors
constexpr int64_t kTileLength = 1024;                 // least positions in a tile, where there are images enough
constexpr int64_t kGroups = 16;                       // partial sums of the weight gradient; fixed, see above

inline Vec Load(const float *p) { return *reinterpret_cast<const VecUnaligned *>(p); }
inline void Store(float *p, Vec v) { *reinterpret_cast<VecUnaligned *>(p) = v; }
inline Vec Splat(float v) { return Vec{} + v; }
inline Vec Abs(Vec v) { return reinterpret_cast<Vec>(reinterpret_cast<Mask>(v) & 0x7fffffff); }
// With the value as second operand a NaN passes through, on every processor.
inline Vec HardTanh(Vec v) { return Max(Splat(-1.0f), Min(Splat(1.0f), v)); }
inline float Sum(Vec v) {
  float sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}
inline int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Sizes of one layer and of its flattened form.
struct Layer {
  int64_t batch, channels, height, width, filters, kernel, stride, padding, out_height, out_width;
  int64_t phases;            // phases that any tap reads, per direction: min(kernel, stride)
  int64_t rows, cols, plane; // one phase of one padded image
  int64_t images, tiles;     // images in a tile, tiles in the batch
  int64_t length;            // positions in a tile, whole blocks
  int64_t halo;              // the farthest that a tap reaches
  int64_t pitch;             // floats from one row of a tile to the next: an odd number of cache lines

  Layer(const int64_t *x_shape, const int64_t *w_shape, const int32_t *geometry)
      : batch(x_shape[0]), channels(x_shape[1]), height(x_shape[2]), width(x_shape[3]), filters(w_shape[0]),
        kernel(w_shape[2]), stride(geometry[0]), padding(geometry[1]) {
    out_height = (height + 2 * padding - kernel) / stride + 1;
    out_width = (width + 2 * padding - kernel) / stride + 1;
    phases = std::min(kernel, stride);
    rows = CeilDiv(height + 2 * padding, stride);
    cols = CeilDiv(width + 2 * padding, stride);
    plane = rows * cols;
    images = std::min(batch, CeilDiv(kTileLength, plane));
    tiles = CeilDiv(batch, images);
    length = RoundUp(images * plane, kBlock);
    halo = Offset(kernel - 1, kernel - 1);
    pitch = (CeilDiv(length + halo, 16) | 1) * 16;
  }
  int64_t Taps() const { return channels * kernel * kernel; }
  int64_t InputRows() const { return RoundUp(channels, kChannels) * phases * phases; }
  int64_t FilterRows() const { return RoundUp(RoundUp(filters, kFilters), kRows); }
  int64_t ImagesIn(int64_t tile) const { return std::min(images, batch - tile * images); }
  // Row of a tile that holds phase (i, j) of channel c; a tap (i, j) lies in phase (i % stride, j % stride).
  int64_t InputRow(int64_t c, int64_t i, int64_t j) const { return (c * phases + i) * phases + j; }
  int64_t Offset(int64_t i, int64_t j) const { return i / stride * cols + j / stride; }
};

// Calls visit(image_value, tile_value) for runs of a phase: `count` values, `stride` apart in the image, side by side
// in the tile.
template <typename Visit>
void ForEachInputRun(const Layer &l, int64_t tile, Visit visit) {
  for (int64_t n = 0; n < l.ImagesIn(tile); ++n)
    for (int64_t c = 0; c < l.channels; ++c)
      for (int64_t pi = 0; pi < l.phases; ++pi)
        for (int64_t pj = 0; pj < l.phases; ++pj) {
          const int64_t first = std::max<int64_t>(0, CeilDiv(l.padding - pj, l.stride));
          const int64_t last = std::min(l.cols, CeilDiv(l.width + l.padding - pj, l.stride));
          for (int64_t r = 0; r < l.rows; ++r) {
            const int64_t row = r * l.stride + pi - l.padding;
            if (row < 0 || row >= l.height || first >= last) continue;
            const int64_t image = (((tile * l.images + n) * l.channels + c) * l.height + row) * l.width;
            visit(image + first * l.stride + pj - l.padding,
                  l.InputRow(c, pi, pj) * l.pitch + n * l.plane + r * l.cols + first, last - first);
          }
        }
}

// Calls visit(output_index, tile_index) for every row of every output map.
template <typename Visit>
void ForEachOutputRun(const Layer &l, int64_t tile, Visit visit) {
  for (int64_t n = 0; n < l.ImagesIn(tile); ++n)
    for (int64_t f = 0; f < l.filters; ++f)
      for (int64_t i = 0; i < l.out_height; ++i)
        visit((((tile * l.images + n) * l.filters + f) * l.out_height + i) * l.out_width,
              f * l.pitch + n * l.plane + i * l.cols);
}

// x [N, C, H, W] -> tile [InputRows, pitch], zero wherever the image is padded.
void PackInput(const Layer &l, int64_t tile, const float *x, std::vector<float> *packed) {
  packed->assign(l.InputRows() * l.pitch, 0.0f);
  float *out = packed->data();
  ForEachInputRun(l, tile, [&](int64_t from, int64_t to, int64_t count) {
    if (l.stride == 1) {
      std::memcpy(out + to, x + from, count * sizeof(float));
    } else {
      for (int64_t i = 0; i < count; ++i) out[to + i] = x[from + i * l.stride];
    }
  });
}

// dy [N, F, H', W'] -> [FilterRows, pitch] behind `halo` leading zeros; zero wherever there is no output.
void PackOutputGrad(const Layer &l, int64_t tile, const float *dy, std::vector<float> *packed) {
  packed->assign(l.halo + l.FilterRows() * l.pitch, 0.0f);
  float *out = packed->data() + l.halo;
  ForEachOutputRun(l, tile, [&](int64_t from, int64_t to) {
    std::memcpy(out + to, dy + from, l.out_width * sizeof(float));
  });
}

// out[f][q] = sum_k |x[offset_k + q] - w[k][f]| for kFilters filters and kVectors vectors of positions.
void ForwardBlock(int64_t taps, const float *x, const int64_t *offsets, const float *w, float *out, int64_t pitch) {
  Vec acc[kFilters][kVectors] = {};
  for (int64_t k = 0; k < taps; ++k, w += kFilters) {
    Vec xs[kVectors];
    for (int v = 0; v < kVectors; ++v) xs[v] = Load(x + offsets[k] + v * kLanes);
#pragma GCC unroll 8
    for (int f = 0; f < kFilters; ++f)
      for (int v = 0; v < kVectors; ++v) acc[f][v] += Abs(xs[v] - w[f]);
  }
  for (int f = 0; f < kFilters; ++f)
    for (int v = 0; v < kVectors; ++v) Store(out + f * pitch + v * kLanes, acc[f][v]);
}

// dx[c][u] = sum_k dy[u - offset_k] * HardTanh(w[k][c] - x[c][u]); k runs over filters and over the taps of one phase.
void InputGradBlock(int64_t taps, const float *dy, const int64_t *offsets, const float *w, const float *x, float *dx,
                    int64_t row) {
  Vec acc[kChannels][kInputVectors] = {}, xs[kChannels][kInputVectors];
  for (int c = 0; c < kChannels; ++c)
    for (int v = 0; v < kInputVectors; ++v) xs[c][v] = Load(x + c * row + v * kLanes);
  for (int64_t k = 0; k < taps; ++k, w += kChannels) {
    Vec g[kInputVectors];
    for (int v = 0; v < kInputVectors; ++v) g[v] = Load(dy + offsets[k] + v * kLanes);
#pragma GCC unroll 8
    for (int c = 0; c < kChannels; ++c)
      for (int v = 0; v < kInputVectors; ++v) acc[c][v] += g[v] * HardTanh(w[c] - xs[c][v]);
  }
  for (int c = 0; c < kChannels; ++c)
    for (int v = 0; v < kInputVectors; ++v) Store(dx + c * row + v * kLanes, acc[c][v]);
}

// dw[f][k] += sum_q dy[f][q] * x[offset_k + q] for kRows filters and kTaps taps: long dot products over a tile.
void WeightGradBlock(int64_t length, const float *dy, int64_t pitch, const float *x, const int64_t *offsets, float *dw,
                     int64_t taps) {
  Vec acc[kRows][kTaps] = {};
  for (int64_t q = 0; q < length; q += kLanes) {
    Vec g[kRows];
    for (int f = 0; f < kRows; ++f) g[f] = Load(dy + f * pitch + q);
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) {
      const Vec xs = Load(x + offsets[k] + q);
      for (int f = 0; f < kRows; ++f) acc[f][k] += g[f] * xs;
    }
  }
  for (int f = 0; f < kRows; ++f)
    for (int k = 0; k < kTaps; ++k) dw[f * taps + k] += Sum(acc[f][k]);
}

// Where each tap (c, i, j) reads in a packed input tile; padded to whole blocks with harmless zeros.
std::vector<int64_t> TapOffsets(const Layer &l) {
  std::vector<int64_t> offsets;
  for (int64_t c = 0; c < l.channels; ++c)
    for (int64_t i = 0; i < l.kernel; ++i)
      for (int64_t j = 0; j < l.kernel; ++j)
        offsets.push_back(l.InputRow(c, i % l.stride, j % l.stride) * l.pitch + l.Offset(i, j));
  offsets.resize(RoundUp(l.Taps(), kTaps), 0);
  return offsets;
}

void Forward(const Layer &l, const float *x, const float *w, float *y) {
  const int64_t taps = l.Taps(), blocks = CeilDiv(l.filters, kFilters);
  const std::vector<int64_t> offsets = TapOffsets(l);
  std::vector<float> weights(blocks * taps * kFilters, 0.0f);  // [block, tap, filter of the block]
  for (int64_t f = 0; f < l.filters; ++f)
    for (int64_t k = 0; k < taps; ++k) weights[(f / kFilters * taps + k) * kFilters + f % kFilters] = w[f * taps + k];

#pragma omp parallel
  {
    std::vector<float> input, output(l.FilterRows() * l.pitch);
#pragma omp for schedule(dynamic)
    for (int64_t tile = 0; tile < l.tiles; ++tile) {
      PackInput(l, tile, x, &input);
      for (int64_t q = 0; q < l.length; q += kVectors * kLanes)
        for (int64_t b = 0; b < blocks; ++b)
          ForwardBlock(taps, input.data() + q, offsets.data(), &weights[b * taps * kFilters],
                       &output[b * kFilters * l.pitch + q], l.pitch);
      ForEachOutputRun(l, tile, [&](int64_t to, int64_t from) {
        for (int64_t j = 0; j < l.out_width; ++j) y[to + j] = -output[from + j];
      });
    }
  }
}

// The taps of one phase, for the input gradient.
struct PhaseTaps {
  std::vector<int64_t> offsets;  // [filter, tap]: into the packed dy, relative to the input's position
  std::vector<float> weights;    // [channel block, filter, tap, channel of the block]

  PhaseTaps(const Layer &l, const float *w, int64_t pi, int64_t pj) {
    for (int64_t f = 0; f < l.filters; ++f)
      for (int64_t i = pi; i < l.kernel; i += l.stride)
        for (int64_t j = pj; j < l.kernel; j += l.stride) offsets.push_back(f * l.pitch - l.Offset(i, j));
    for (int64_t c0 = 0; c0 < l.channels; c0 += kChannels)
      for (int64_t f = 0; f < l.filters; ++f)
        for (int64_t i = pi; i < l.kernel; i += l.stride)
          for (int64_t j = pj; j < l.kernel; j += l.stride)
            for (int64_t c = c0; c < c0 + kChannels; ++c)
              weights.push_back(c < l.channels ? w[((f * l.channels + c) * l.kernel + i) * l.kernel + j] : 0.0f);
  }
};

void InputGrad(const Layer &l, const float *dy, const float *x, const float *w, float *dx) {
  std::vector<PhaseTaps> phases;
  for (int64_t i = 0; i < l.phases; ++i)
    for (int64_t j = 0; j < l.phases; ++j) phases.emplace_back(l, w, i, j);
  const int64_t row = l.phases * l.phases * l.pitch;  // from one channel to the next

#pragma omp parallel
  {
    std::vector<float> input, grad, output(l.InputRows() * l.pitch);
#pragma omp for schedule(dynamic)
    for (int64_t tile = 0; tile < l.tiles; ++tile) {
      PackInput(l, tile, x, &input);
      PackOutputGrad(l, tile, dy, &grad);
      for (int64_t q = 0; q < l.length; q += kInputVectors * kLanes)
        for (int64_t c = 0; c < l.channels; c += kChannels)
          for (size_t p = 0; p < phases.size(); ++p) {
            const int64_t taps = phases[p].offsets.size(), at = c * row + p * l.pitch + q;
            InputGradBlock(taps, grad.data() + l.halo + q, phases[p].offsets.data(), &phases[p].weights[c * taps],
                           &input[at], &output[at], row);
          }
      const int64_t size = l.channels * l.height * l.width;  // inputs that no window reaches keep a zero gradient
      std::memset(dx + tile * l.images * size, 0, l.ImagesIn(tile) * size * sizeof(float));
      ForEachInputRun(l, tile, [&](int64_t to, int64_t from, int64_t count) {
        for (int64_t i = 0; i < count; ++i) dx[to + i * l.stride] = output[from + i];
      });
    }
  }
}

// dw = sum dy * (x - w) = (sum dy * x) - w * (sum dy). Each group of tiles has sums of its own, added up in order.
void WeightGrad(const Layer &l, const float *dy, const float *x, const float *w, float *dw) {
  const std::vector<int64_t> offsets = TapOffsets(l);
  const int64_t taps = l.Taps(), columns = offsets.size(), size = l.FilterRows() * columns;
  const int64_t groups = std::min(l.tiles, kGroups);
  std::vector<float> products(groups * size, 0.0f);
  std::vector<double> sums(groups * l.filters, 0.0);

#pragma omp parallel
  {
    std::vector<float> input, grad;
#pragma omp for schedule(dynamic)
    for (int64_t group = 0; group < groups; ++group)
      for (int64_t tile = group; tile < l.tiles; tile += groups) {
        PackInput(l, tile, x, &input);
        PackOutputGrad(l, tile, dy, &grad);
        for (int64_t k = 0; k < columns; k += kTaps)
          for (int64_t f = 0; f < l.filters; f += kRows)
            WeightGradBlock(l.length, &grad[l.halo + f * l.pitch], l.pitch, input.data(), &offsets[k],
                            &products[group * size + f * columns + k], columns);
        for (int64_t f = 0; f < l.filters; ++f) {
          Vec sum = {};
          for (int64_t q = 0; q < l.length; q += kLanes) sum += Load(&grad[l.halo + f * l.pitch + q]);
          sums[group * l.filters + f] += Sum(sum);
        }
      }
  }
  for (int64_t f = 0; f < l.filters; ++f) {
    double sum = 0.0;
    for (int64_t group = 0; group < groups; ++group) sum += sums[group * l.filters + f];
    for (int64_t k = 0; k < taps; ++k) {
      double product = 0.0;
      for (int64_t group = 0; group < groups; ++group) product += products[group * size + f * columns + k];
      dw[f * taps + k] = static_cast<float>(product - w[f * taps + k] * sum);
    }
  }
}

template <typename Function>
int Guarded(Function function) {
  try {
    function();
    return 0;
  } catch (const std::exception &) {  // out of memory, which MindSpore reports; inside a parallel region it ends the
    return 1;                         // process, as OpenMP demands
  }
}

template <typename T>
const T *In(void **params, int i) { return static_cast<const T *>(params[i]); }

}  // namespace

// MindSpore's calling convention for ahead-of-time operators. All tensors float32, `geometry` int32 [stride, padding].
extern "C" {

// Inputs x [N, C, H, W], w [F, C, k, k], geometry; output y [N, F, H', W'].
int AdderForward(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[0], shapes[1], In<int32_t>(params, 2));
    Forward(l, In<float>(params, 0), In<float>(params, 1), static_cast<float *>(params[3]));
  });
}

// Inputs dy [N, F, H', W'], x, w, geometry; output dx [N, C, H, W].
int AdderInputGrad(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[1], shapes[2], In<int32_t>(params, 3));
    InputGrad(l, In<float>(params, 0), In<float>(params, 1), In<float>(params, 2), static_cast<float *>(params[4]));
  });
}

// Inputs dy, x, w, geometry; output dw [F, C, k, k], before any adaptive rate.
int AdderWeightGrad(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l(shapes[1], shapes[2], In<int32_t>(params, 3));
    WeightGrad(l, In<float>(params, 0), In<float>(params, 1), In<float>(params, 2), static_cast<float *>(params[4]));
  });
}

}  // extern "C"
