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
// Adder layer on CPU in integers of 8 bits: s = sum |x - w| of unsigned bytes, with batch norm, shortcut, ReLU and the
// rounding to the next layer's bytes behind it.
//
// psadbw adds |x - w| of eight bytes into a lane of 64 bits. Activations are [N, H, W, C], so that eight channels of a
// position lie side by side: a lane is a filter, eight bytes of the input are broadcast to all lanes, and a row of a
// window is one run of bytes, whatever the kernel and the stride. The even filters of a block are in one vector and the
// odd ones in another; shifted by 32 bits and added, they are its sums in order.

#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

#include "packing.h"
#include "simd.h"
#include "threads.h"

namespace {

constexpr int kGroup = 8;                                 // bytes in a lane
constexpr int kPositions = kRegisters == 32 ? 8 : 4;      // of a register block, two vectors of sums each
constexpr int kFilters = kLanes;                          // of a register block
constexpr int64_t kStep = 2 * (kLanes / 2) * kGroup;      // bytes of its weights for one group of channels
typedef uint64_t Sums __attribute__((vector_size(4 * kLanes)));
typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));
typedef uint8_t Bytes __attribute__((vector_size(kLanes)));

// sum + |x - w| over each lane's eight bytes, x being the same for all lanes.
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
inline Sums Broadcast(const uint8_t *x) {
  int64_t group;
  std::memcpy(&group, x, kGroup);
  return reinterpret_cast<Sums>(_mm512_set1_epi64(group));
}
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  return sum + reinterpret_cast<Sums>(_mm512_sad_epu8(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}
#elif defined(__AVX2__) && !defined(__AVX512F__)
inline Sums Broadcast(const uint8_t *x) {
  int64_t group;
  std::memcpy(&group, x, kGroup);
  return reinterpret_cast<Sums>(_mm256_set1_epi64x(group));
}
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  return sum + reinterpret_cast<Sums>(_mm256_sad_epu8(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
}
#else
inline Sums Broadcast(const uint8_t *x) {
  uint64_t group;
  std::memcpy(&group, x, kGroup);
  return group - Sums{};
}
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  uint8_t xs[sizeof(Sums)], ws[sizeof(Sums)];
  std::memcpy(xs, &x, sizeof(Sums));
  std::memcpy(ws, &w, sizeof(Sums));
  for (int lane = 0; lane < kLanes / 2; ++lane) {
    int distance = 0;
    for (int i = lane * kGroup; i < (lane + 1) * kGroup; ++i) distance += std::abs(xs[i] - ws[i]);
    sum[lane] += distance;
  }
  return sum;
}
#endif

inline Sums LoadSums(const uint8_t *p) {
  Sums v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// The sums of kFilters filters at kPositions positions, `step` bytes apart in x. A window is `rows` runs of `groups`
// groups, `pitch` bytes apart.
NO_INLINE void Block(const uint8_t *x, int64_t step, int64_t rows, int64_t pitch, int64_t groups, const uint8_t *w,
                     Ints *out) {
  Sums even[kPositions] = {}, odd[kPositions] = {};
  for (int64_t i = 0; i < rows; ++i, x += pitch) {
    const uint8_t *from = x;
    for (int64_t g = 0; g < groups; ++g, from += kGroup, w += kStep) {
      const Sums w_even = LoadSums(w), w_odd = LoadSums(w + kStep / 2);
      UNROLL
      for (int p = 0; p < kPositions; ++p) {
        const Sums xs = Broadcast(from + p * step);
        even[p] = AddDistance(even[p], xs, w_even);
        odd[p] = AddDistance(odd[p], xs, w_odd);
      }
    }
  }
  UNROLL
  for (int p = 0; p < kPositions; ++p) out[p] = reinterpret_cast<Ints>(even[p] + (odd[p] << 32));
}

// The filters [F, C, k, k] in blocks: [block, row of the window, its bytes in groups, half of the block, lane, byte].
std::vector<uint8_t> PackFilters(const Layer &l, const uint8_t *w) {
  const int64_t run = l.kernel * RoundUp(l.channels, kGroup);
  std::vector<uint8_t> packed(RoundUp(l.filters, kFilters) * l.kernel * run, 0);
  for (int64_t f = 0; f < l.filters; ++f) {
    uint8_t *block = &packed[f / kFilters * kFilters * l.kernel * run];
    const int64_t lane = f % 2 * (kStep / 2) + f % kFilters / 2 * kGroup;
    for (int64_t c = 0; c < l.channels; ++c)
      for (int64_t i = 0; i < l.kernel; ++i)
        for (int64_t j = 0; j < l.kernel; ++j) {
          const int64_t byte = j * RoundUp(l.channels, kGroup) + c;
          block[(i * run + byte) / kGroup * kStep + lane + byte % kGroup] = *w++;
        }
  }
  return packed;
}

// What happens to the sums on their way to memory: y = s, or y = round(scale * s + shift + residual_scale * residual)
// within 0 .. top.
struct Epilogue {
  std::vector<float> scale, shift, residual_scale;  // per filter, in whole blocks
  const void *residual = nullptr;                   // as y
  int64_t residual_bytes = 0;                       // of a value: uint8 or int32
  float top = 0.0f;
};

template <typename T>
std::vector<T> InBlocks(const T *values, int64_t count) {
  std::vector<T> padded(values, values + count);
  padded.resize(RoundUp(count, kFilters));
  return padded;
}

template <typename Values, typename T>
inline Values LoadSome(const T *p, int64_t count) {
  Values v = {};
  if (count >= kFilters) std::memcpy(&v, p, sizeof v);
  else std::memcpy(&v, p, count * sizeof(T));
  return v;
}

template <typename Values, typename T>
inline void StoreSome(T *p, Values v, int64_t count) {
  if (count >= kFilters) std::memcpy(p, &v, sizeof v);
  else std::memcpy(p, &v, count * sizeof(T));
}

inline Vec ToFloat(Ints v) { return __builtin_convertvector(v, Vec); }

// The nearest integer of 0 .. top, the even one of two, as the lowest bits of a sum with 3 * 2^22.
inline Bytes ToBytes(Vec v, float top) {
  const Vec sum = Max(Vec{}, Min(Splat(top), v)) + Splat(12582912.0f);
  return __builtin_convertvector(reinterpret_cast<Ints>(sum), Bytes);
}

// `count` filters from f on; `at` is the index of the first in y.
inline void Finish(const Epilogue &, Ints sums, int64_t, int64_t at, int64_t count, int32_t *y) {
  StoreSome(y + at, sums, count);
}

// Each product is rounded before it is added, as operators of their own would do: the same bytes everywhere.
inline void Finish(const Epilogue &e, Ints sums, int64_t f, int64_t at, int64_t count, uint8_t *y) {
  Vec v = InRegister(ToFloat(sums) * Load(&e.scale[f])) + Load(&e.shift[f]);
  if (e.residual) {
    const Ints residual = e.residual_bytes == 1
        ? __builtin_convertvector(LoadSome<Bytes>(static_cast<const uint8_t *>(e.residual) + at, count), Ints)
        : LoadSome<Ints>(static_cast<const int32_t *>(e.residual) + at, count);
    v += InRegister(ToFloat(residual) * Load(&e.residual_scale[f]));
  }
  StoreSome(y + at, ToBytes(v, e.top), count);
}

class Forward {
 public:
  Forward(const Layer &layer, const uint8_t *x_, const uint8_t *w, const Epilogue &epilogue)
      : l(layer), x(x_), e(epilogue), filters(PackFilters(l, w)), channels(RoundUp(l.channels, kGroup)),
        pitch((l.width + 2 * l.padding) * channels),
        band(std::min(CeilDiv(l.out_height, l.threads > 1 ? CeilDiv(2 * l.threads, l.batch) : 1),
                      BandRows(l.out_height, [&](int64_t rows) { return TileSize(rows) / 4; }))) {}

  template <typename T>
  void Run(T *y) const {
    const int64_t bands = CeilDiv(l.out_height, band);
    Threads::ForEach(l.threads, l.batch * bands, [&](int64_t item) { RunTile(item / bands, item % bands * band, y); });
  }

 private:
  const Layer &l;
  const uint8_t *x;  // [N, H, W, C]
  const Epilogue &e;
  const std::vector<uint8_t> filters;
  const int64_t channels, pitch;  // in whole groups; bytes in a row with its padding
  const int64_t band;             // rows of the output in a tile

  // Bytes of a tile, with room for what a register block reads behind its last position.
  int64_t TileSize(int64_t rows) const {
    return ((rows - 1) * l.stride + l.kernel) * pitch + kPositions * l.stride * channels;
  }

  template <typename T>
  void RunTile(int64_t n, int64_t row, T *y) const {
    static thread_local Scratch scratch;
    const int64_t rows = std::min(band, l.out_height - row), step = l.stride * channels;
    const int64_t groups = l.kernel * channels / kGroup;
    uint8_t *tile = reinterpret_cast<uint8_t *>(scratch.Get(CeilDiv(TileSize(band), 4)));
    PackTile(n, row * l.stride - l.padding, (rows - 1) * l.stride + l.kernel, tile);
    for (int64_t f = 0; f < l.filters; f += kFilters)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t q = 0; q < l.out_width; q += kPositions) {
          Ints sums[kPositions];
          Block(tile + r * l.stride * pitch + q * step, step, l.kernel, pitch, groups,
                &filters[f * l.kernel * l.kernel * channels], sums);
          int64_t at = (((n * l.out_height + row + r) * l.out_width) + q) * l.filters + f;
          for (int64_t p = 0; p < std::min<int64_t>(kPositions, l.out_width - q); ++p, at += l.filters)
            Finish(e, sums[p], f, at, l.filters - f, y);
        }
  }

  // Rows of image n from `first` on, with their padding and in whole groups of channels.
  void PackTile(int64_t n, int64_t first, int64_t rows, uint8_t *tile) const {
    const int64_t margin = l.padding * channels, length = l.width * channels;
    for (int64_t row = first; row < first + rows; ++row, tile += pitch) {
      if (row < 0 || row >= l.height) {
        std::memset(tile, 0, pitch);
        continue;
      }
      const uint8_t *from = x + (n * l.height + row) * l.width * l.channels;
      std::memset(tile, 0, margin);
      if (channels == l.channels) {
        std::memcpy(tile + margin, from, length);
      } else {
        std::memset(tile + margin, 0, length);
        for (int64_t i = 0; i < l.width; ++i)
          std::memcpy(tile + margin + i * channels, from + i * l.channels, l.channels);
      }
      std::memset(tile + margin + length, 0, margin);
    }
  }
};

// [C, positions] of float to [positions, C] of the nearest bytes.
void Quantise(const float *x, int64_t channels, int64_t positions, float top, uint8_t *y) {
  for (int64_t q = 0; q < positions; q += kLanes) {
    const int64_t count = std::min<int64_t>(kLanes, positions - q);
    for (int64_t c = 0; c < channels; ++c) {
      Vec v = {};
      if (count == kLanes) v = Load(x + c * positions + q);
      else std::memcpy(&v, x + c * positions + q, count * sizeof(float));
      const Bytes bytes = ToBytes(v, top);
      for (int64_t i = 0; i < count; ++i) y[(q + i) * channels + c] = bytes[i];
    }
  }
}

// ---- entry points ----

template <typename Function>
int Guarded(Function function) {
  try {
    function();
    return 0;
  } catch (const std::exception &) {  // out of memory, which MindSpore reports
    return 1;
  }
}

// `x` is [N, H, W, C], of which `Layer` wants [N, C, H, W].
Layer LayerOf(const int64_t *x, const int64_t *w, const int32_t *geometry) {
  const int64_t shape[] = {x[0], x[3], x[1], x[2]};
  return Layer(shape, w, geometry);
}

template <typename T>
inline const T *In(void **params, int i) { return static_cast<const T *>(params[i]); }

}  // namespace

// MindSpore's calling convention for ahead-of-time operators.
extern "C" {

// Inputs x uint8 [N, H, W, C], w uint8 [F, C, k, k], geometry int32 [stride, padding, threads, 1]; output int32
// [N, H', W', F] = sum |x - w|.
int AdderInt8(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l = LayerOf(shapes[0], shapes[1], In<int32_t>(params, 2));
    const Epilogue none;
    Forward(l, In<uint8_t>(params, 0), In<uint8_t>(params, 1), none).Run(static_cast<int32_t *>(params[3]));
  });
}

// Inputs x, w, scale [F] and shift [F] float32; maybe a residual as the output, uint8 or int32, and its scale [F];
// geometry [stride, padding, threads, 1, top, bytes of a residual's value]. Output uint8 [N, H', W', F] =
// round(scale * sum |x - w| + shift + residual_scale * residual) within 0 .. top.
int AdderInt8Folded(int count, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const int32_t *geometry = In<int32_t>(params, count - 2);
    const Layer l = LayerOf(shapes[0], shapes[1], geometry);
    Epilogue e;
    e.scale = InBlocks(In<float>(params, 2), l.filters);
    e.shift = InBlocks(In<float>(params, 3), l.filters);
    e.top = static_cast<float>(geometry[4]);
    e.residual_bytes = geometry[5];
    if (e.residual_bytes) {
      e.residual = params[4];
      e.residual_scale = InBlocks(In<float>(params, 5), l.filters);
    }
    Forward(l, In<uint8_t>(params, 0), In<uint8_t>(params, 1), e).Run(static_cast<uint8_t *>(params[count - 1]));
  });
}

// Inputs x float32 [N, C, H, W], [threads, top] int32; output uint8 [N, H, W, C] = round(x) within 0 .. top.
int QuantiseInt8(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const int64_t *shape = shapes[0], positions = shape[2] * shape[3], image = shape[1] * positions;
    const int32_t *constants = In<int32_t>(params, 1);
    Threads::ForEach(std::min<int64_t>(constants[0], 1 + shape[0] * image / kThreadWork), shape[0], [&](int64_t n) {
      Quantise(In<float>(params, 0) + n * image, shape[1], positions, static_cast<float>(constants[1]),
               static_cast<uint8_t *>(params[2]) + n * image);
    });
  });
}

}  // extern "C"
