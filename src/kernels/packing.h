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
// How images are laid out for the inner loops of an adder layer.
//
// No patches are copied: a tap of the window is a pointer into a tile, which holds some rows of an image with their
// padding, and nothing is computed for the padding. Where the rows of the output are no whole vectors, vectors have to
// run over row ends; then the tile is packed once for each column of the window, each time shifted by one column and
// dense, exactly as wide as the output: k copies instead of k * k. Stride s packs every s-th column in that way, and
// the rows in s phases, so that a step of the window is one row again.
#ifndef ADDERNGD_PACKING_H_
#define ADDERNGD_PACKING_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "simd.h"

constexpr int64_t kCacheLine = 16;         // in floats
constexpr int64_t kTileSize = 160 << 10;   // floats in a tile, to stay in the second-level cache
constexpr int64_t kThreadWork = 4 << 20;   // pairs (x, w) that a thread should have: about 0.1 ms

inline int64_t CeilDiv(int64_t a, int64_t b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
inline int64_t RoundUp(int64_t a, int64_t b) { return CeilDiv(a, b) * b; }

// Sizes of one layer, and the number of threads that are worth waking for it.
struct Layer {
  int64_t batch, channels, height, width, filters, kernel, stride, padding, threads, norm, out_height, out_width, taps;

  Layer(const int64_t *x_shape, const int64_t *w_shape, const int32_t *geometry)
      : batch(x_shape[0]), channels(x_shape[1]), height(x_shape[2]), width(x_shape[3]), filters(w_shape[0]),
        kernel(w_shape[2]), stride(geometry[0]), padding(geometry[1]), threads(geometry[2]), norm(geometry[3]),
        out_height((height + 2 * padding - kernel) / stride + 1),
        out_width((width + 2 * padding - kernel) / stride + 1), taps(channels * kernel * kernel) {
    threads = std::min(threads, 1 + batch * filters * out_height * out_width * taps / kThreadWork);
  }
};

// Memory of a thread, kept from call to call.
class Scratch {
 public:
  // At least `size` floats on a cache line, of any value.
  float *Get(int64_t size) {
    if (static_cast<int64_t>(memory_.size()) < size + kCacheLine) memory_.assign(size + kCacheLine, 0.0f);
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (RoundUp(address, 4 * kCacheLine) - address) / sizeof(float);
  }

 private:
  std::vector<float> memory_;
};

// Planes [height, width] of a tensor.
struct Planes {
  const float *data;
  int64_t count, height, width;

  const float *Plane(int64_t i) const { return data + i * height * width; }
  const float *End() const { return Plane(count); }
};

// Values `step` apart in a plane, rows x cols of them from (row, col) on, and the same again `shifts` - 1 times, each
// `shift` (1 or -1) columns further. They may lie outside the plane. In memory:
// - joint, if there are several shifts and the rows are whole vectors: each row with the columns for all shifts, which
//   differ by a pointer only;
// - or one copy for each shift, `Pitch` floats apart, its rows side by side.
struct Grid {
  int64_t row, col, step, rows, cols, shifts, shift;

  bool Joint() const { return shifts > 1 && step == 1 && cols % kLanes == 0; }
  int64_t Copies() const { return Joint() ? 1 : shifts; }
  int64_t Columns() const { return Joint() ? cols + shifts - 1 : cols; }
  int64_t Leftmost() const { return col + std::min<int64_t>(0, (shifts - 1) * shift); }  // column, over all shifts
  int64_t RowPitch() const { return Joint() ? RoundUp(Columns(), kCacheLine) : cols; }
  // With room for one vector more, and an odd number of cache lines, so that the planes of a tile do not compete for
  // the same places in the cache.
  int64_t Pitch() const { return (CeilDiv(rows * RowPitch() + kLanes, kCacheLine) | 1) * kCacheLine; }
  int64_t Size() const { return Copies() * Pitch(); }

  // Where shift i starts, and from there the vector of positions q, q + 1, ...
  int64_t Shift(int64_t i) const { return Joint() ? (shift > 0 ? i : shifts - 1 - i) : i * Pitch(); }
  int64_t At(int64_t q) const { return Joint() ? q / cols * RowPitch() + q % cols : q; }
};

template <int kStep>  // 0: any other
inline Vec LoadStrided(const float *p, int64_t step) {
  if (kStep == 1) return Load(p);
  if (kStep == 2) return LoadEven(p);
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = p[i * step];
  return v;
}

// One row of a grid, less `centre`, with `outside` for the columns that the plane does not have.
template <int kStep>
inline void PackRow(const float *row, int64_t width, const Grid &g, float centre, float outside, float *out) {
  const int64_t step = kStep ? kStep : g.step;
  const int64_t columns = g.Columns(), copies = g.Copies(), pitch = g.Pitch();
  int64_t first = g.Joint() ? g.Leftmost() : g.col;
  for (int64_t copy = 0; copy < copies; ++copy, first += g.shift, out += pitch) {
    for (int64_t i = 0; i < columns; i += kLanes)
      Store(out + i, LoadStrided<kStep>(row + first + i * step, step) - centre);
    for (int64_t i = 0, column = first; column < 0 && i < columns; ++i, column += step) out[i] = outside;
    for (int64_t i = columns - 1, column = first + i * step; column >= width && i >= 0; --i, column -= step)
      out[i] = outside;
  }
}

// Packs a plane. Whole vectors are read and written: what is read from beyond the row is overwritten, as is what is too
// much at the end of a packed row, by the next one; a vector of zeros ends each copy. A row too near to either end of
// the tensor is read from a copy between margins.
inline void Pack(const Planes &planes, int64_t index, const Grid &g, float centre, float outside, float *out) {
  static thread_local Scratch scratch;
  const int64_t first = g.Leftmost(), width = planes.width;
  const int64_t length = RoundUp(g.Columns(), kLanes) * g.step + g.shifts - 1;
  const int64_t copies = g.Copies(), pitch = g.Pitch(), row_pitch = g.RowPitch();
  for (int64_t r = 0; r < g.rows; ++r, out += row_pitch) {
    const int64_t in = g.row + r * g.step;
    if (in < 0 || in >= planes.height) {
      for (int64_t copy = 0; copy < copies; ++copy) std::fill_n(out + copy * pitch, row_pitch, outside);
      continue;
    }
    const float *row = planes.Plane(index) + in * width;
    for (int64_t i = 0; i < width; i += kCacheLine) __builtin_prefetch(row + planes.height * width + i);  // next plane
    if (row - planes.data + first < 0 || planes.End() - row < first + length) {
      const int64_t margin = std::max<int64_t>(0, -first);
      float *line = scratch.Get(margin + std::max(width, first + length)) + margin;
      std::memcpy(line, row, width * sizeof(float));
      row = line;
    }
    if (g.step == 1) PackRow<1>(row, width, g, centre, outside, out);
    else if (g.step == 2) PackRow<2>(row, width, g, centre, outside, out);
    else PackRow<0>(row, width, g, centre, outside, out);
  }
  for (int64_t copy = 0; copy < copies; ++copy) Store(out + copy * pitch, Vec{});
}

// The reverse, for a grid inside the plane and without shifts.
inline void Unpack(const float *packed, const Grid &g, int64_t width, float *plane) {
  for (int64_t r = 0; r < g.rows; ++r, packed += g.RowPitch()) {
    float *to = plane + (g.row + r * g.step) * width + g.col;
    if (g.step == 1) std::memcpy(to, packed, g.cols * sizeof(float));
    else for (int64_t i = 0; i < g.cols; ++i) to[i * g.step] = packed[i];
  }
}

// The inputs of `rows` output rows from `row` on, packed as [channel, row phase, grid].
struct InputTile {
  const Layer &l;
  int64_t phases;
  Grid grid;

  InputTile(const Layer &layer, int64_t row, int64_t rows)
      : l(layer), phases(std::min(l.kernel, l.stride)),
        grid{row * l.stride - l.padding, -l.padding, l.stride, rows + (l.kernel - 1) / l.stride, l.out_width,
             l.kernel, 1} {}

  int64_t ChannelSize() const { return phases * grid.Size(); }
  int64_t Size() const { return l.channels * ChannelSize(); }

  // Where each tap (c, i, j) starts, for channels [first, last).
  std::vector<int64_t> Offsets(int64_t first, int64_t last) const {
    std::vector<int64_t> offsets;
    for (int64_t c = first; c < last; ++c)
      for (int64_t i = 0; i < l.kernel; ++i)
        for (int64_t j = 0; j < l.kernel; ++j)
          offsets.push_back(c * ChannelSize() + i % l.stride * grid.Size() + grid.Shift(j) +
                            i / l.stride * grid.RowPitch());
    return offsets;
  }

  void PackPlane(const Planes &planes, int64_t index, float centre, float outside, float *out) const {
    for (int64_t phase = 0; phase < phases; ++phase) {
      Grid g = grid;
      g.row += phase;
      Pack(planes, index, g, centre, outside, out + phase * grid.Size());
    }
  }

  // Channels [first, last) of image n, each less its centre.
  void PackChannels(const Planes &x, int64_t n, const std::vector<float> &centres, int64_t first, int64_t last,
                    float *out) const {
    for (int64_t c = first; c < last; ++c)
      PackPlane(x, n * l.channels + c, centres[c], -centres[c], out + c * ChannelSize());
  }
};

// The most rows, of `rows`, that fit a tile, in bands as even as can be; size(n) is the size of a tile of n rows.
template <typename Size>
int64_t BandRows(int64_t rows, Size size) {
  for (int64_t bands = 1; bands < rows; ++bands)
    if (size(CeilDiv(rows, bands)) <= kTileSize) return CeilDiv(rows, bands);
  return 1;
}

#endif  // ADDERNGD_PACKING_H_
