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
#include <cstdlib>
#include <cstring>
#include <vector>

#include "abi.h"
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

// Eight bytes in every lane.
inline Sums Broadcast(const uint8_t *x) {
  uint64_t group;
  std::memcpy(&group, x, kGroup);
  return group - Sums{};
}

// sum + |x - w| over each lane's bytes; bytes as integers, and the lowest byte of each.
#if defined(__AVX512BW__) && defined(__AVX512DQ__)
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  return sum + reinterpret_cast<Sums>(_mm512_sad_epu8(reinterpret_cast<__m512i>(x), reinterpret_cast<__m512i>(w)));
}
inline Ints ToInts(Bytes v) { return reinterpret_cast<Ints>(_mm512_cvtepu8_epi32(reinterpret_cast<__m128i>(v))); }
inline Bytes LowBytes(Ints v) { return reinterpret_cast<Bytes>(_mm512_cvtepi32_epi8(reinterpret_cast<__m512i>(v))); }
#elif defined(__AVX2__) && !defined(__AVX512F__)
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  return sum + reinterpret_cast<Sums>(_mm256_sad_epu8(reinterpret_cast<__m256i>(x), reinterpret_cast<__m256i>(w)));
}
inline Ints ToInts(Bytes v) {
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_set1_epi64x(reinterpret_cast<int64_t>(v))));
}
inline Bytes LowBytes(Ints v) {
  const __m256i first = _mm256_set1_epi32(0x0c080400);  // of each four
  const __m256i halves = _mm256_shuffle_epi8(reinterpret_cast<__m256i>(v), first);
  const __m128i joined = _mm_unpacklo_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  return reinterpret_cast<Bytes>(_mm_cvtsi128_si64(joined));
}
#else
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
inline Ints ToInts(Bytes v) { return __builtin_convertvector(v, Ints); }
inline Bytes LowBytes(Ints v) { return __builtin_convertvector(v, Bytes); }
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

// kFilters values in memory, of which the first `count` are there.
template <bool whole, typename Values, typename T>
inline Values LoadSome(const T *p, int64_t count) {
  Values v = {};
  std::memcpy(&v, p, whole ? sizeof v : count * sizeof(T));
  return v;
}

template <bool whole, typename Values, typename T>
inline void StoreSome(T *p, Values v, int64_t count) {
  std::memcpy(p, &v, whole ? sizeof v : count * sizeof(T));
}

template <bool whole>
inline Ints LoadInts(const int32_t *p, int64_t count) { return LoadSome<whole, Ints>(p, count); }
template <bool whole>
inline Ints LoadInts(const uint8_t *p, int64_t count) {
  return ToInts(LoadSome<whole, Bytes>(p, count));
}

inline Vec ToFloat(Ints v) { return __builtin_convertvector(v, Vec); }

// The nearest integer of 0 .. top, the even one of two, as the lowest bits of a sum with 3 * 2^22.
inline Bytes ToBytes(Vec v, float top) {
  const Vec sum = Max(Vec{}, Min(Splat(top), v)) + Splat(12582912.0f);
  return LowBytes(reinterpret_cast<Ints>(sum));
}

// What takes the sums of filters [f, f + kFilters), of `filters`, at some positions to y; `at` is the first's index.
struct Raw {
  typedef int32_t Out;

  template <bool whole>
  void Run(const Ints *sums, int64_t positions, int64_t f, int64_t filters, int64_t at, Out *y) const {
    for (int64_t p = 0; p < positions; ++p, at += filters) StoreSome<whole>(y + at, sums[p], filters - f);
  }
};

// round(scale * sum + shift + residual_scale * residual) within 0 .. top. Each product is rounded before it is added,
// as operators of their own would do: the same bytes everywhere.
template <typename Residual>
struct Folded {
  typedef uint8_t Out;
  std::vector<float> scale, shift, residual_scale;  // per filter, in whole blocks
  const Residual *residual;                         // as y, or null
  float top;

  template <bool whole>
  void Run(const Ints *sums, int64_t positions, int64_t f, int64_t filters, int64_t at, Out *y) const {
    const Vec scales = Load(&scale[f]), shifts = Load(&shift[f]), residual_scales = Load(&residual_scale[f]);
    const int64_t count = filters - f;
    for (int64_t p = 0; p < positions; ++p, at += filters) {
      Vec v = InRegister(ToFloat(sums[p]) * scales) + shifts;
      if (residual) v += InRegister(ToFloat(LoadInts<whole>(residual + at, count)) * residual_scales);
      StoreSome<whole>(y + at, ToBytes(v, top), count);
    }
  }
};

template <typename Finish>
class Forward {
 public:
  Forward(const Layer &layer, const uint8_t *x_, const uint8_t *w, const Finish &finish_)
      : l(layer), x(x_), finish(finish_), filters(PackFilters(l, w)), channels(RoundUp(l.channels, kGroup)),
        pitch((l.width + 2 * l.padding) * channels),
        band(BandRows(l, l.out_height, [&](int64_t rows) { return TileSize(rows) / 4; })) {}

  void Run(typename Finish::Out *y) const {
    ForEachBand(l, l.out_height, band, [&](int64_t n, int64_t row) { RunTile(n, row, y); });
  }

 private:
  const Layer &l;
  const uint8_t *x;  // [N, H, W, C]
  const Finish finish;
  const std::vector<uint8_t> filters;
  const int64_t channels, pitch;  // in whole groups; bytes in a row with its padding
  const int64_t band;             // rows of the output in a tile

  // Bytes of a tile, with room for what a register block reads behind its last position.
  int64_t TileSize(int64_t rows) const {
    return ((rows - 1) * l.stride + l.kernel) * pitch + kPositions * l.stride * channels;
  }

  void RunTile(int64_t n, int64_t row, typename Finish::Out *y) const {
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
          const int64_t at = ((n * l.out_height + row + r) * l.out_width + q) * l.filters + f;
          const int64_t positions = std::min<int64_t>(kPositions, l.out_width - q);
          if (l.filters - f >= kFilters) finish.template Run<true>(sums, positions, f, l.filters, at, y);
          else finish.template Run<false>(sums, positions, f, l.filters, at, y);
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
      const Bytes bytes = ToBytes(LoadFirst(x + c * positions + q, count), top);
      for (int64_t i = 0; i < count; ++i) y[(q + i) * channels + c] = bytes[i];
    }
  }
}

// ---- entry points ----

// `x` is [N, H, W, C], of which `Layer` wants [N, C, H, W].
Layer LayerOf(const int64_t *x, const int64_t *w, const int32_t *geometry) {
  const int64_t shape[] = {x[0], x[3], x[1], x[2]};
  return Layer(shape, w, geometry);
}

// Values per filter, in whole blocks.
std::vector<float> InBlocks(const Layer &l, const float *values) {
  std::vector<float> padded(values, values + l.filters);
  padded.resize(RoundUp(l.filters, kFilters));
  return padded;
}

template <typename Residual>
void RunFolded(int count, void **params, int64_t **shapes) {
  const int32_t *geometry = In<int32_t>(params, count - 2);
  const Layer l = LayerOf(shapes[0], shapes[1], geometry);
  const bool has_residual = count == 8;
  const Folded<Residual> finish{InBlocks(l, In<float>(params, 2)), InBlocks(l, In<float>(params, 3)),
                                InBlocks(l, In<float>(params, has_residual ? 5 : 3)),
                                has_residual ? In<Residual>(params, 4) : nullptr, static_cast<float>(geometry[4])};
  Forward(l, In<uint8_t>(params, 0), In<uint8_t>(params, 1), finish).Run(static_cast<uint8_t *>(params[count - 1]));
}

}  // namespace

// MindSpore's calling convention for ahead-of-time operators.
extern "C" {

// Inputs x uint8 [N, H, W, C], w uint8 [F, C, k, k], geometry int32 [stride, padding, threads, 1]; output int32
// [N, H', W', F] = sum |x - w|.
int AdderInt8(int, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    const Layer l = LayerOf(shapes[0], shapes[1], In<int32_t>(params, 2));
    Forward(l, In<uint8_t>(params, 0), In<uint8_t>(params, 1), Raw()).Run(static_cast<int32_t *>(params[3]));
  });
}

// Inputs x, w, scale [F] and shift [F] float32; a residual as the output, of 1 or 4 bytes a value (uint8 or int32), and
// its scale [F], or neither; geometry [stride, padding, threads, 1, top, bytes]. Output uint8 [N, H', W', F] =
// round(scale * sum |x - w| + shift + residual_scale * residual) within 0 .. top.
int AdderInt8Folded(int count, void **params, int *, int64_t **shapes, const char **, void *, void *) {
  return Guarded([&] {
    if (In<int32_t>(params, count - 2)[5] == 4) RunFolded<int32_t>(count, params, shapes);
    else RunFolded<uint8_t>(count, params, shapes);
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
