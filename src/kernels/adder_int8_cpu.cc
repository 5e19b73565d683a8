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
//
// In a depthwise layer a lane of 32 bits is a filter, and holds the byte of its channel: channels that have several
// filters are repeated where a tile is packed.

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "abi.h"
#include "fixed_point.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"
#include "threads.h"

namespace {

constexpr int kOctet = 8;                                 // bytes in a lane
constexpr int kPositions = kRegisters == 32 ? 8 : 4;      // of a register block, two vectors of sums each
constexpr int kFilters = kLanes;                          // of a register block
constexpr int64_t kStep = 2 * (kLanes / 2) * kOctet;      // bytes of its weights for one octet of channels
using Sums = uint64_t __attribute__((vector_size(4 * kLanes)));
using Bytes = uint8_t __attribute__((vector_size(kLanes)));

// Eight bytes in every lane.
inline Sums Broadcast(const uint8_t *x) {
  uint64_t octet;
  std::memcpy(&octet, x, kOctet);
  return octet - Sums{};
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
#if defined(__aarch64__)
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  const uint8x16_t distance = vabdq_u8(reinterpret_cast<uint8x16_t>(x), reinterpret_cast<uint8x16_t>(w));
  return reinterpret_cast<Sums>(vpadalq_u32(reinterpret_cast<uint64x2_t>(sum), vpaddlq_u16(vpaddlq_u8(distance))));
}
#else
inline Sums AddDistance(Sums sum, Sums x, Sums w) {
  uint8_t xs[sizeof(Sums)], ws[sizeof(Sums)];
  std::memcpy(xs, &x, sizeof(Sums));
  std::memcpy(ws, &w, sizeof(Sums));
  for (int lane = 0; lane < kLanes / 2; ++lane) {
    int distance = 0;
    for (int i = lane * kOctet; i < (lane + 1) * kOctet; ++i) distance += std::abs(xs[i] - ws[i]);
    sum[lane] += distance;
  }
  return sum;
}
#endif
inline Ints ToInts(Bytes v) { return __builtin_convertvector(v, Ints); }
inline Bytes LowBytes(Ints v) { return __builtin_convertvector(v, Bytes); }
#endif

// The sums of kFilters filters at kPositions positions, `step` bytes apart in x. A window is `rows` runs of `octets`
// octets, `pitch` bytes apart.
NO_INLINE void Block(const uint8_t *x, int64_t step, int64_t rows, int64_t pitch, int64_t octets, const uint8_t *w,
                     Ints *out) {
  Sums even[kPositions] = {}, odd[kPositions] = {};
  for (int64_t i = 0; i < rows; ++i, x += pitch) {
    const uint8_t *from = x;
    for (int64_t g = 0; g < octets; ++g, from += kOctet, w += kStep) {
      const Sums w_even = LoadAs<Sums>(w), w_odd = LoadAs<Sums>(w + kStep / 2);
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

// The same sums in a depthwise layer, from bytes of x that stand as the filters do. A window is `kernel` runs, `pitch`
// bytes apart, of `kernel` bytes, `channels` bytes apart.
NO_INLINE void DepthwiseBlock(const uint8_t *x, int64_t step, int64_t kernel, int64_t pitch, int64_t channels,
                              const uint8_t *w, Ints *out) {
  Ints sum[kPositions] = {};
  for (int64_t i = 0; i < kernel; ++i)
    for (int64_t j = 0; j < kernel; ++j, w += kFilters) {
      const Ints ws = ToInts(LoadSome<true, Bytes>(w, kFilters));
      UNROLL
      for (int p = 0; p < kPositions; ++p) {
        const Ints d = ToInts(LoadSome<true, Bytes>(x + i * pitch + j * channels + p * step, kFilters)) - ws;
        sum[p] += d < 0 ? -d : d;
      }
    }
  UNROLL
  for (int p = 0; p < kPositions; ++p) out[p] = sum[p];
}

// The filters of a group [F, C, k, k] in blocks: [block, row of the window, its bytes in octets, half of the block,
// lane, byte].
std::vector<uint8_t> PackFilters(const Layer &layer, const uint8_t *w) {
  const int64_t run = layer.kernel * RoundUp(layer.channels, kOctet);
  std::vector<uint8_t> packed(RoundUp(layer.filters, kFilters) * layer.kernel * run, 0);
  for (int64_t f = 0; f < layer.filters; ++f) {
    uint8_t *block = packed.data() + f / kFilters * kFilters * layer.kernel * run;
    const int64_t lane = f % 2 * (kStep / 2) + f % kFilters / 2 * kOctet;
    for (int64_t c = 0; c < layer.channels; ++c)
      for (int64_t i = 0; i < layer.kernel; ++i)
        for (int64_t j = 0; j < layer.kernel; ++j) {
          const int64_t byte = j * RoundUp(layer.channels, kOctet) + c;
          block[(i * run + byte) / kOctet * kStep + lane + byte % kOctet] = *w++;
        }
  }
  return packed;
}

// The filters of a depthwise layer: [block, tap, lane].
std::vector<uint8_t> PackDepthwiseFilters(const Layer &layer, const uint8_t *w) {
  std::vector<uint8_t> packed(RoundUp(layer.AllFilters(), kFilters) * layer.taps, 0);
  for (int64_t f = 0; f < layer.AllFilters(); ++f)
    for (int64_t k = 0; k < layer.taps; ++k)
      packed[(f / kFilters * layer.taps + k) * kFilters + f % kFilters] = w[f * layer.taps + k];
  return packed;
}

template <bool whole>
inline Ints LoadInts(const int32_t *p, int64_t count) { return LoadSome<whole, Ints>(p, count); }
template <bool whole>
inline Ints LoadInts(const uint8_t *p, int64_t count) {
  return ToInts(LoadSome<whole, Bytes>(p, count));
}

// The nearest integer of 0 .. top, the even one of two, as the lowest bits of a sum with 3 * 2^22.
inline Bytes ToBytes(Vec v, float top) {
  const Vec sum = Max(Vec{}, Min(Splat(top), v)) + Splat(kRounding);
  return LowBytes(reinterpret_cast<Ints>(sum));
}

// What takes the sums of `count` filters from f on, at most kFilters, at some positions, to y. `at` is the first's
// index, and positions are `pitch` apart.
struct Raw {
  using Out = int32_t;

  template <bool whole>
  void Run(const Ints *sums, int64_t positions, int64_t, int64_t count, int64_t pitch, int64_t at, Out *y) const {
    for (int64_t p = 0; p < positions; ++p, at += pitch) StoreSome<whole>(y + at, sums[p], count);
  }
};

// round(scale * sum + shift + residual_scale * residual) within 0 .. top. Each product is rounded before it is added,
// as operators of their own would do: the same bytes everywhere.
template <typename Residual>
struct Folded {
  using Out = uint8_t;
  std::vector<float> scale, shift, residual_scale;  // per filter, with room for a block behind
  const Residual *residual;                         // as y, or null
  float top;

  template <bool whole>
  void Run(const Ints *sums, int64_t positions, int64_t f, int64_t count, int64_t pitch, int64_t at,
           Out *y) const {
    const Vec scales = Load(&scale[f]), shifts = Load(&shift[f]), residual_scales = Load(&residual_scale[f]);
    for (int64_t p = 0; p < positions; ++p, at += pitch) {
      Vec v = InRegister(ToFloat(sums[p]) * scales) + shifts;
      if (residual) v += InRegister(ToFloat(LoadInts<whole>(residual + at, count)) * residual_scales);
      StoreSome<whole>(y + at, ToBytes(v, top), count);
    }
  }
};

// Of one group of a layer, or of a whole depthwise layer.
template <typename Finish>
class Forward {
 public:
  Forward(const Layer &layer, int64_t group, const uint8_t *x, const uint8_t *w, const Finish &finish)
      : layer_(layer), finish_(finish), depthwise_(layer.Depthwise()), first_(group * layer.filters),
        count_(depthwise_ ? layer.AllFilters() : layer.filters), x_(x + group * layer.channels),
        filters_(depthwise_ ? PackDepthwiseFilters(layer, w) : PackFilters(layer, w + layer.InW(group))),
        seen_(depthwise_ ? layer.AllChannels() : layer.channels),
        channels_(depthwise_ ? RoundUp(count_, kFilters) : RoundUp(seen_, kOctet)),
        pitch_((layer.width + 2 * layer.padding) * channels_),
        band_(BandRows(layer, layer.out_height, [&](int64_t rows) { return TileBytes(rows) / 4; })) {}

  void Run(typename Finish::Out *y) const {
    ForEachBand(layer_, layer_.out_height, band_, [&](int64_t n, int64_t row) { RunTile(n, row, y); });
  }

 private:
  const Layer &layer_;
  const Finish &finish_;
  const bool depthwise_;
  const int64_t first_, count_;  // filters
  const uint8_t *const x_;       // [N, H, W, C]
  const std::vector<uint8_t> filters_;
  const int64_t seen_;              // channels of a position that are read
  const int64_t channels_, pitch_;  // bytes of a position, in whole vectors; of a row with its padding
  const int64_t band_;              // rows of the output in a tile

  // Of the inputs of `rows` rows, with room for what a register block reads behind its last position.
  int64_t TileBytes(int64_t rows) const {
    return ((rows - 1) * layer_.stride + layer_.kernel) * pitch_ + kPositions * layer_.stride * channels_;
  }

  void RunTile(int64_t n, int64_t row, typename Finish::Out *y) const {
    const int64_t rows = std::min(band_, layer_.out_height - row), step = layer_.stride * channels_;
    const int64_t octets = layer_.kernel * channels_ / kOctet, pitch = layer_.AllFilters();
    uint8_t *tile = reinterpret_cast<uint8_t *>(scratch_x.Get(CeilDiv(TileBytes(band_), 4)));
    PackTile(n, row * layer_.stride - layer_.padding, (rows - 1) * layer_.stride + layer_.kernel, tile);
    for (int64_t f = 0; f < count_; f += kFilters)
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t q = 0; q < layer_.out_width; q += kPositions) {
          Ints sums[kPositions];
          const uint8_t *from = tile + r * layer_.stride * pitch_ + q * step;
          if (depthwise_)
            DepthwiseBlock(from + f, step, layer_.kernel, pitch_, channels_, &filters_[f * layer_.taps], sums);
          else
            Block(from, step, layer_.kernel, pitch_, octets, &filters_[f * layer_.kernel * kOctet * octets], sums);
          const int64_t at = ((n * layer_.out_height + row + r) * layer_.out_width + q) * pitch + first_ + f;
          const int64_t positions = std::min<int64_t>(kPositions, layer_.out_width - q), count = count_ - f;
          if (count >= kFilters) finish_.template Run<true>(sums, positions, first_ + f, kFilters, pitch, at, y);
          else finish_.template Run<false>(sums, positions, first_ + f, count, pitch, at, y);
        }
  }

  // Rows of image n from `first` on, with their padding and in whole vectors of channels.
  void PackTile(int64_t n, int64_t first, int64_t rows, uint8_t *tile) const {
    const int64_t margin = layer_.padding * channels_, length = layer_.width * channels_;
    const int64_t all = layer_.AllChannels();
    for (int64_t row = first; row < first + rows; ++row, tile += pitch_) {
      if (row < 0 || row >= layer_.height) {
        std::memset(tile, 0, pitch_);
        continue;
      }
      const uint8_t *from = x_ + (n * layer_.height + row) * layer_.width * all;
      std::memset(tile, 0, margin);
      if (channels_ == seen_ && seen_ == all) {
        std::memcpy(tile + margin, from, length);
      } else {
        std::memset(tile + margin, 0, length);
        for (int64_t i = 0; i < layer_.width; ++i) PackPosition(from + i * all, tile + margin + i * channels_);
      }
      std::memset(tile + margin + length, 0, margin);
    }
  }

  void PackPosition(const uint8_t *from, uint8_t *to) const {
    if (!depthwise_ || layer_.filters == 1) std::memcpy(to, from, seen_);
    else for (int64_t c = 0; c < seen_; ++c) std::memset(to + c * layer_.filters, from[c], layer_.filters);
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

// Values per filter, with room for a block behind; zeros if there are none.
std::vector<float> InBlocks(const Layer &layer, const float *values) {
  std::vector<float> padded(layer.AllFilters() + kFilters);
  if (values) std::copy_n(values, layer.AllFilters(), padded.begin());
  return padded;
}

template <typename Finish>
void RunForward(const Layer &layer, const Tensor &x, const Tensor &w, const Finish &finish, const Tensor &y) {
  const auto run = [&](int64_t group) {
    Forward<Finish>(layer, group, x.Data<uint8_t>(), w.Data<uint8_t>(), finish).Run(y.Data<typename Finish::Out>());
  };
  if (layer.Depthwise()) run(0);
  else ForEachGroup(layer, run);
}

}  // namespace

// x is uint8 [N, H, W, C] and w uint8 [F, C, k, k]; of the geometry [stride, padding + 1] see layer.h.
extern "C" {

// Inputs x, w, geometry; output int32 [N, H', W', F] = sum |x - w|.
int AdderInt8(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), geometry = arguments.Next(), y = arguments.Next();
    RunForward(ChannelsLastLayerOf(x, w, geometry), x, w, Raw(), y);
  });
}

// Inputs x, w, scale [F] and shift [F] float32; maybe a residual as the output, uint8 or int32, and its scale [F]
// float32; top [1] float32, geometry. Output uint8 [N, H', W', F] = round(scale * sum |x - w| + shift +
// residual_scale * residual) within 0 .. top.
int AdderInt8Folded(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), w = arguments.Next(), scale = arguments.Next(), shift = arguments.Next();
    const Tensor residual = arguments.NextBefore(3), residual_scale = arguments.NextBefore(3);
    const Tensor top = arguments.Next(), geometry = arguments.Next(), y = arguments.Next();
    const Layer layer = ChannelsLastLayerOf(x, w, geometry);
    const auto run = [&](const auto *residuals) {
      RunForward(layer, x, w, Folded<std::decay_t<decltype(*residuals)>>{
          InBlocks(layer, scale.Data()), InBlocks(layer, shift.Data()), InBlocks(layer, residual_scale.Data()),
          residuals, *top.Data()}, y);
    };
    if (residual.type == std::string("int32")) run(residual.Data<int32_t>());
    else run(residual.Data<uint8_t>());
  });
}

// Inputs x float32 [N, C, H, W], top [1] float32, and a geometry of no meaning, lest this function be an exception;
// output uint8 [N, H, W, C] = round(x) within 0 .. top.
int QuantiseInt8(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return Guarded({count, data, ranks, shapes, types}, [](Arguments &arguments) {
    const Tensor x = arguments.Next(), top = arguments.Next();
    arguments.Next();
    const Tensor y = arguments.Next();
    const int64_t batch = x.shape[0], channels = x.shape[1], positions = x.shape[2] * x.shape[3];
    const int64_t image = channels * positions;
    Threads::ForEach(WorthWaking(batch * image), batch, [&](int64_t n) {
      Quantise(x.Data() + n * image, channels, positions, *top.Data(), y.Data<uint8_t>() + n * image);
    });
  });
}

}  // extern "C"
