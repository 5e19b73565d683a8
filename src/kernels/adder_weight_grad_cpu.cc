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
// Gradient of an adder layer's filters on CPU: dw = sum dy * (mix * (x - w) + (1 - mix) * sign(x - w)). With mix 1 it
// is AdderNet's (arXiv 1912.13200, eq. 5), which is that of norm 2, and with mix 0 the derivative of norm 1.
//
// A register block is a vector of filters for some channels, where x is read value by value; see packing.h. It runs
// over the positions of a tile, some rows of some images. Tiles are dealt out to shares. Each share has its own sums,
// which are added up in order at the end, so that no result depends on the number of threads.
//
// Few channels leave most of a block empty, and that for every tap. Such a layer is run as one of 1x1 with its taps as
// channels: what a position sees of each is gathered. The sums are the same.
//
// In fixed point of 16 bits a word is two positions, of which a multiply-add of pairs takes both. x and dy are rounded
// to integers whose step is that of a channel, or of a filter, in a tile, so that no sum overflows.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "abi.h"
#include "depthwise.h"
#include "fixed_point.h"
#include "layer.h"
#include "packing.h"
#include "simd.h"
#include "threads.h"

namespace {

constexpr int kBlock = kRegisters == 32 ? 16 : 8;  // a register block: channels x a vector of filters
static_assert(kBlock % kLanes == 0, "transposed in squares");

constexpr int64_t kSumLength = 256;       // positions in a sum, if there are
constexpr int64_t kShares = 16;           // partial sums; fixed, for the same result on any machine
constexpr int64_t kSharesSize = 4 << 20;  // and all of them together, in floats, at most

// Of dy[q][f] for each (c, f): the sum of its products with x[q][c], or with the sign of x[q][c] - w[c][f].
enum class Sum { kOfProducts, kOfSigns };

// How one operand of the weight gradient goes on from image to image, row to row, position to position.
struct Steps {
  int64_t image, row, position;
};

// out[c][f] += the sum over all positions, for kBlock channels and a vector of filters.
template <Sum kind>
NO_INLINE void FloatBlock(int64_t images, int64_t rows, int64_t columns, const float *dy, const Steps &dy_steps,
                          const float *x, const Steps &x_steps, const float *w, const float *, const float *,
                          float *out) {
  Vec sum[kBlock] = {};
  for (int64_t n = 0; n < images; ++n)
    for (int64_t row = 0; row < rows; ++row) {
      const float *dys = dy + n * dy_steps.image + row * dy_steps.row, *xs = x + n * x_steps.image + row * x_steps.row;
      for (int64_t q = 0; q < columns; ++q, dys += kLanes, xs += x_steps.position) {
        const Vec g = InRegister(Load(dys));
        UNROLL
        for (int c = 0; c < kBlock; ++c)
          sum[c] = kind == Sum::kOfProducts ? AddProduct(sum[c], g, xs + c)
                                            : AddSign(sum[c], g, xs + c, Load(w + c * kLanes));
      }
    }
  UNROLL
  for (int c = 0; c < kBlock; ++c) Store(out + c * kLanes, Load(out + c * kLanes) + sum[c]);
}

// The same sum of products, of words of two positions each, times what 1 of them is worth in x and in dy.
NO_INLINE void FixedBlock(int64_t images, int64_t rows, int64_t columns, const float *dy, const Steps &dy_steps,
                          const float *x, const Steps &x_steps, const float *, const float *unit_x,
                          const float *unit_dy, float *out) {
  Sums sum[kBlock] = {};
  for (int64_t n = 0; n < images; ++n)
    for (int64_t row = 0; row < rows; ++row) {
      const float *dys = dy + n * dy_steps.image + row * dy_steps.row, *xs = x + n * x_steps.image + row * x_steps.row;
      for (int64_t q = 0; q < columns; ++q, dys += kLanes, xs += x_steps.position) {
        const Shorts g = LoadAs<Shorts>(dys);
        UNROLL
        for (int c = 0; c < kBlock; ++c) sum[c] = AddProducts(sum[c], g, SplatWord(xs + c));
      }
    }
  UNROLL
  for (int c = 0; c < kBlock; ++c)
    Store(out + c * kLanes, Load(out + c * kLanes) + ToFloat(reinterpret_cast<Ints>(sum[c])) * unit_x[c] * Load(unit_dy));
}

// Numbers of the sums of products: how many positions a word has; what makes words of floats and says what 1 of them is
// worth, lane by lane, for dy [image, row, column, lane], where `columns` of each row become whole words, and for x
// [image, position, channel], where a word is x there and `stride` positions on; the inner loop.
struct Floats {
  static constexpr int64_t kPositions = 1;
  static void PackDy(int64_t, int64_t, int64_t, const Steps &, float *, float *) {}
  static void PackX(int64_t, int64_t, const Steps &, int64_t, float *, float *) {}
  static constexpr auto kProducts = FloatBlock<Sum::kOfProducts>;
};

class Fixed {
 public:
  static constexpr int64_t kPositions = 2;
  static constexpr auto kProducts = FixedBlock;

  static void PackDy(int64_t images, int64_t rows, int64_t columns, const Steps &steps, float *dy, float *units) {
    Sizes sizes;
    ForEachRow(images, rows, steps, dy, [&](const float *row) {
      for (int64_t q = 0; q < columns; ++q) sizes.Add(row + q * kLanes);
    });
    const float half_steps = 0.5f * static_cast<float>(images * rows * columns);  // that rounding adds to a sum
    const Vec room = (0x1p31f * 0.999f / kMostOfX - half_steps) / Max(sizes.sums, Splat(kTiny));
    const Vec factor = Min(32766.0f / Max(sizes.most, Splat(kTiny)), room);
    Store(units, 1.0f / factor + sizes.Broken());
    ForEachRow(images, rows, steps, dy, [&](float *row) {
      for (int64_t q = 0; q < columns; q += 2)
        StoreAs(row + q / 2 * kLanes, Pair(row + q * kLanes, q + 1 < columns ? kLanes : 0, factor));
    });
  }

  static void PackX(int64_t images, int64_t positions, const Steps &steps, int64_t stride, float *x, float *units) {
    for (int64_t c = 0; c < kBlock; c += kLanes) {
      Sizes sizes;
      for (int64_t n = 0; n < images; ++n)
        for (int64_t q = 0; q < positions; ++q) sizes.Add(x + n * steps.image + q * kBlock + c);
      const Vec factor = kMostOfX / Max(sizes.most, Splat(kTiny));
      Store(units + c, 1.0f / factor + sizes.Broken());
      for (int64_t n = 0; n < images; ++n)
        for (int64_t q = 0; q < positions; ++q) {
          float *const at = x + n * steps.image + q * kBlock + c;
          StoreAs(at, Pair(at, q + stride < positions ? stride * kBlock : 0, factor));
        }
    }
  }

 private:
  static constexpr float kMostOfX = 8192.0f;  // of its integers; what is left of 32 bits is for the sums of dy
  static constexpr float kTiny = 1e-30f;      // the least of the largest values, for which floats have a factor

  // Of absolute values, lane by lane: the largest, and the sum.
  struct Sizes {
    Vec most = {}, sums = {};

    void Add(const float *values) {
      const Vec size = Abs(Load(values));
      most = Max(size, most);
      sums += size;
    }
    Vec Broken() const { return sums - sums; }  // NaN where a value is not finite, else 0
  };

  // Words of a vector and of the one `apart` behind it, or of zeros if that is 0.
  static Ints Pair(const float *values, int64_t apart, Vec factor) {
    const Vec zero = Splat(kRounding);
    return Words(Load(values) * factor + zero, apart ? Load(values + apart) * factor + zero : zero);
  }

  template <typename Work>
  static void ForEachRow(int64_t images, int64_t rows, const Steps &steps, float *dy, Work work) {
    for (int64_t n = 0; n < images; ++n)
      for (int64_t row = 0; row < rows; ++row) work(dy + n * steps.image + row * steps.row);
  }
};

// Tiles, shares of tiles, and where sums and weights lie: [block of channels, tap, vector of filters, channel of the
// block, lane].
struct Plan {
  int64_t window, blocks, vectors;  // taps of a channel; blocks of channels, vectors of filters
  int64_t rows, images;             // of a tile
  int64_t bands, tiles;             // tiles of an image, and of all
  int64_t shares, parts;            // of tiles; of blocks, where there are too few shares for the threads

  // Of n blocks.
  int64_t Size(int64_t n) const { return n * window * vectors * kBlock * kLanes; }
  // Where filter f, channel c and tap i are.
  int64_t At(int64_t f, int64_t c, int64_t i) const {
    return (((c / kBlock * window + i) * vectors + f / kLanes) * kBlock + c % kBlock) * kLanes + f % kLanes;
  }
};

inline int64_t AtLeastOne(int64_t n) { return std::max<int64_t>(1, n); }

// Of a layer that is not empty.
Plan PlanOf(const Layer &layer) {
  Plan plan = {};
  plan.window = layer.kernel * layer.kernel;
  plan.blocks = CeilDiv(layer.channels, kBlock);
  plan.vectors = CeilDiv(layer.filters, kLanes);
  plan.rows = AtLeastOne(std::min(layer.out_height, kSumLength / layer.out_width));
  plan.images = AtLeastOne(std::min(layer.batch, kSumLength / (plan.rows * layer.out_width)));
  plan.bands = CeilDiv(layer.out_height, plan.rows);
  plan.tiles = CeilDiv(layer.batch, plan.images) * plan.bands;
  plan.shares = std::min({plan.tiles, kShares, AtLeastOne(kSharesSize / plan.Size(plan.blocks))});
  const int64_t wanted = 2 * layer.threads;
  plan.parts = plan.shares < wanted ? std::min(plan.blocks, CeilDiv(wanted, plan.shares)) : 1;
  return plan;
}

// Whether blocks of taps are so few that gathering pays. It takes half as long as the sums for a vector of filters, but
// also for positions that fill up the last vector of a row.
bool PaysToGather(const Layer &layer) {
  const int64_t sums = 2 * CeilDiv(layer.filters, kLanes) * layer.out_width;
  const int64_t gathering = RoundUp(layer.out_width, kLanes), window = layer.kernel * layer.kernel;
  return layer.channels < kBlock && CeilDiv(layer.taps, kBlock) * (sums + gathering) <= window * sums;
}

// The 1x1 layer over the taps. Its w and dw lie as the layer's own.
Layer OfTaps(Layer layer) {
  layer.channels = layer.taps;
  layer.height = layer.out_height;
  layer.width = layer.out_width;
  layer.kernel = layer.stride = 1;
  layer.padding = 0;
  return layer;
}

// Of one group of a layer. The sum with x - w is taken as (sum dy * x) - w * (sum dy), x and w centred.
template <typename Numbers>
class WeightGrad {
 public:
  WeightGrad(const Layer &layer, int64_t group, const float *dy, const float *x, const float *w, float mix)
      : source_(layer), gathered_(PaysToGather(layer)), layer_(gathered_ ? OfTaps(layer) : layer),
        plan_(PlanOf(layer_)), mix_(mix), dy_(dy + layer.InY(group)), x_(x + layer.InX(group)),
        centres_(mix == 0.0f ? std::vector<float>(layer.channels) : Centres(layer, w)),
        w_(plan_.Size(plan_.blocks), 0.0f) {
    const int64_t window = layer.kernel * layer.kernel;  // the plan's may be 1
    for (int64_t c = 0; c < layer_.channels; ++c)
      for (int64_t i = 0; i < plan_.window; ++i)
        for (int64_t f = 0; f < layer_.filters; ++f) {
          const int64_t tap = c * plan_.window + i;
          w_[plan_.At(f, c, i)] = w[f * layer.taps + tap] - centres_[tap / window];
        }
  }

  void Run(float *dw) const {
    const int64_t size = plan_.Size(plan_.blocks), filters = plan_.vectors * kLanes, parts = plan_.parts;
    const std::unique_ptr<float[]> products(mix_ != 0.0 ? new float[plan_.shares * size] : nullptr);
    const std::unique_ptr<float[]> signs(mix_ != 1.0 ? new float[plan_.shares * size] : nullptr);
    std::vector<double> sums(plan_.shares * filters, 0.0);
    Threads::ForEach(layer_.threads, plan_.shares * parts, [&](int64_t item) {
      const int64_t part = item % parts, share = item / parts;
      const int64_t first = plan_.blocks * part / parts, last = plan_.blocks * (part + 1) / parts;
      float *const product = products ? &products[share * size] : nullptr;
      float *const sign = signs ? &signs[share * size] : nullptr;
      for (float *out : {product, sign})
        if (out) std::fill_n(out + plan_.Size(first), plan_.Size(last - first), 0.0f);
      for (int64_t tile = share; tile < plan_.tiles; tile += plan_.shares)
        RunTile(tile, first, last, product, sign, part ? nullptr : &sums[share * filters]);
    });
    for (int64_t share = 1; share < plan_.shares; ++share)
      for (int64_t f = 0; f < filters; ++f) sums[f] += sums[share * filters + f];
    Threads::ForEach(layer_.threads, layer_.channels * plan_.window, [&](int64_t tap) {
      for (int64_t f = 0; f < filters; f += kLanes)
        Combine(tap / plan_.window, tap % plan_.window, f, products.get(), signs.get(), &sums[f], dw);
    });
  }

 private:
  const Layer &source_;  // whose x it is
  const bool gathered_;
  const Layer layer_;  // that is run
  const Plan plan_;
  const double mix_;
  const float *const dy_, *const x_;
  const std::vector<float> centres_;  // of the source's channels
  std::vector<float> w_;  // centred

  // Adds what a tile gives to blocks [first_block, last_block), and, where wanted, to the sums of dy.
  void RunTile(int64_t index, int64_t first_block, int64_t last_block, float *products, float *signs,
               double *sums) const {
    const int64_t row = index % plan_.bands * plan_.rows, first = index / plan_.bands * plan_.images;
    const int64_t count = std::min(plan_.images, layer_.batch - first);
    const int64_t height = std::min(plan_.rows, layer_.out_height - row), out_width = layer_.out_width;
    const int64_t width = (out_width - 1) * layer_.stride + layer_.kernel;  // of the inputs that are read
    const Steps dy_steps{plan_.rows * out_width * kLanes, out_width * kLanes, kLanes};
    const Steps x_steps{((plan_.rows - 1) * layer_.stride + layer_.kernel) * width * kBlock,
                        layer_.stride * width * kBlock, Numbers::kPositions * layer_.stride * kBlock};
    const int64_t dy_size = plan_.images * dy_steps.image, x_size = plan_.images * x_steps.image;
    constexpr int64_t behind = kLanes * kBlock;
    float *dys = scratch_dy.Get(plan_.vectors * dy_size + behind), *xs = scratch_x.Get(x_size + behind);
    for (int64_t v = 0; v < plan_.vectors; ++v)
      for (int64_t n = 0; n < count; ++n)
        ToLanes(dy_ + (((first + n) * layer_.AllFilters() + v * kLanes) * layer_.out_height + row) * out_width,
                layer_.out_height * out_width, layer_.filters - v * kLanes, height * out_width, kZeros,
                dys + v * dy_size + n * dy_steps.image, kLanes);
    for (int64_t v = 0; sums && v < plan_.vectors; ++v)
      for (int64_t n = 0; n < count; ++n)
        AddPositions(dys + v * dy_size + n * dy_steps.image, height * out_width, sums + v * kLanes);
    std::vector<float> units(plan_.vectors * kLanes), units_x(kBlock);
    for (int64_t v = 0; v < plan_.vectors; ++v)
      Numbers::PackDy(count, height, out_width, dy_steps, dys + v * dy_size, &units[v * kLanes]);
    const Band seen = InputsOf(source_, row, height, out_width);
    const float *const bands = gathered_ ? PackBands(first, count, seen) : nullptr;
    for (int64_t block = first_block; block < last_block; ++block) {
      for (int64_t n = 0; n < count; ++n)
        if (gathered_)
          Gather(bands + n * source_.channels * seen.Pitch(), seen, block * kBlock, height, xs + n * x_steps.image);
        else
          PackInputs(first + n, block * kBlock, row * layer_.stride - layer_.padding,
                     (height - 1) * layer_.stride + layer_.kernel, width, xs + n * x_steps.image);
      const int64_t positions = ((height - 1) * layer_.stride + layer_.kernel) * width;
      Numbers::PackX(count, positions, x_steps, layer_.stride, xs, units_x.data());
      const auto run = [&](auto sum_block, float *out) {
        for (int64_t v = 0; v < plan_.vectors; ++v)
          for (int64_t i = 0; i < plan_.window; ++i) {
            const int64_t at = plan_.At(v * kLanes, block * kBlock, i);
            sum_block(count, height, CeilDiv(out_width, Numbers::kPositions), dys + v * dy_size, dy_steps,
                      xs + (i / layer_.kernel * width + i % layer_.kernel) * kBlock, x_steps, &w_[at],
                      units_x.data(), &units[v * kLanes], out + at);
          }
      };
      if (products) run(Numbers::kProducts, products);
      if (signs) run(FloatBlock<Sum::kOfSigns>, signs);
      for (int64_t n = 0; signs && n < count; ++n)
        AddNaN(xs + n * x_steps.image, positions, block, signs);
    }
  }

  // A value of x that is NaN has no sign: all sums of its channel in a block become NaN.
  void AddNaN(const float *xs, int64_t positions, int64_t block, float *signs) const {
    for (int c = 0; c < kBlock; c += kLanes) {
      Vec broken = {};
      for (int64_t q = 0; q < positions; ++q) broken += OnlyNaN(Load(xs + q * kBlock + c));
      for (int i = 0; i < kLanes; ++i) {
        if (broken[i] == broken[i]) continue;
        for (int64_t row = 0; row < plan_.window * plan_.vectors; ++row)
          Fill(signs + plan_.Size(block) + (row * kBlock + c + i) * kLanes, kLanes, broken[i]);
      }
    }
  }

  // sums += the sum of `positions` vectors.
  static void AddPositions(const float *dys, int64_t positions, double *sums) {
    Vec lanes = {};
    for (int64_t q = 0; q < positions; ++q) lanes += Load(dys + q * kLanes);
    for (int i = 0; i < kLanes; ++i) sums[i] += lanes[i];
  }

  // kBlock channels from c on, centred: [row, column, channel], from row `top` and column -padding on.
  void PackInputs(int64_t n, int64_t c, int64_t top, int64_t height, int64_t width, float *out) const {
    float outside[kBlock] = {}, centre[kBlock] = {};
    for (int64_t i = 0; i < std::min<int64_t>(kBlock, layer_.channels - c); ++i)
      outside[i] = -(centre[i] = centres_[c + i]);
    const int64_t before = std::min(layer_.padding, width);
    const int64_t inside = std::max<int64_t>(0, std::min(layer_.width, width - before));
    const auto pad = [&](int64_t from, int64_t to) {
      for (int64_t q = from; q < to; ++q) std::copy_n(outside, kBlock, out + q * kBlock);
    };
    for (int64_t row = top; row < top + height; ++row, out += width * kBlock) {
      const bool there = row >= 0 && row < layer_.height;
      pad(0, there ? before : width);
      if (!there) continue;
      for (int64_t i = 0; i < kBlock; i += kLanes)
        ToLanes(x_ + ((n * layer_.AllChannels() + c + i) * layer_.height + row) * layer_.width,
                layer_.height * layer_.width, layer_.channels - c - i, inside, centre + i, out + before * kBlock + i,
                kBlock);
      pad(before + inside, width);
    }
  }

  // What a tile sees, centred: [image, channel, band].
  const float *PackBands(int64_t first, int64_t images, const Band &seen) const {
    const int64_t planes = source_.channels, size = source_.height * source_.width;
    float *const out = scratch_out.Get(images * planes * seen.Pitch());
    for (int64_t i = 0; i < images * planes; ++i)
      seen.Pack(Plane{x_ + ((first + i / planes) * source_.AllChannels() + i % planes) * size, centres_[i % planes]},
                source_.height, source_.width, -centres_[i % planes], out + i * seen.Pitch());
    return out;
  }

  // kBlock taps from `tap` on of an image's bands: [row and column of the output, tap]. Whole vectors are read, for
  // which bands have room.
  void Gather(const float *bands, const Band &seen, int64_t tap, int64_t rows, float *out) const {
    const int64_t kernel = source_.kernel;
    const float *from[kBlock] = {};
    for (int64_t i = 0; i < std::min<int64_t>(kBlock, layer_.channels - tap); ++i) {
      const int64_t row = (tap + i) / kernel, column = (tap + i) % kernel;  // counted over all channels
      from[i] = bands + row / kernel * seen.Pitch() + seen.At(row % kernel, column);
    }
    for (int64_t row = 0; row < rows; ++row, out += layer_.width * kBlock)
      for (int64_t i = 0; i < kBlock; i += kLanes)
        PlanesToLanes([&](int lane) { return from[i + lane] + row * source_.stride * seen.RowPitch(); },
                      layer_.channels - tap - i, RoundUp(layer_.width, kLanes), kZeros, out + i, kBlock);
  }

  // Writes tap i of channel c for the vector of filters from f on, of which `sums` are those of dy.
  void Combine(int64_t c, int64_t i, int64_t f, const float *products, const float *signs, const double *sums,
               float *dw) const {
    const int64_t at = plan_.At(f, c, i), size = plan_.Size(plan_.blocks);
    double linear[kLanes], sign[kLanes] = {};
    for (int lane = 0; lane < kLanes; ++lane) linear[lane] = -w_[at + lane] * sums[lane];
    for (int64_t share = 0; share < plan_.shares; ++share)
      for (int lane = 0; lane < kLanes; ++lane) {
        if (products) linear[lane] += products[share * size + at + lane];
        if (signs) sign[lane] += signs[share * size + at + lane];
      }
    float *out = dw + (f * layer_.channels + c) * plan_.window + i;
    for (int64_t lane = 0; lane < std::min<int64_t>(kLanes, layer_.filters - f); ++lane)
      out[lane * layer_.taps] = static_cast<float>(mix_ * linear[lane] + (1.0 - mix_) * sign[lane]);
  }
};

template <typename Numbers>
int RunWeightGrad(Arguments arguments) {
  return Guarded(arguments, [](Arguments &arguments) {
    const Tensor dy = arguments.Next(), x = arguments.Next(), w = arguments.Next(), mix = arguments.Next();
    const Tensor geometry = arguments.Next(), dw = arguments.Next();
    const Layer layer = LayerOf(x, w, geometry);
    if (layer.Empty()) return void(std::fill_n(dw.Data(), layer.AllFilters() * layer.taps, 0.0f));
    if (layer.Depthwise()) return DepthwiseWeightGrad(layer, dy.Data(), x.Data(), w.Data(), *mix.Data(), dw.Data());
    const auto run = [&](auto numbers, int64_t group) {
      WeightGrad<decltype(numbers)>(layer, group, dy.Data(), x.Data(), w.Data() + layer.InW(group), *mix.Data())
          .Run(dw.Data() + layer.InW(group));
    };
    // The sums of a very long row would leave dy few integers.
    const bool short_rows = layer.out_width <= 4 * kSumLength;
    ForEachGroup(layer, [&](int64_t group) { short_rows ? run(Numbers(), group) : run(Floats(), group); });
  });
}

}  // namespace

extern "C" {

// Inputs dy [N, F, H', W'], x [N, C, H, W], w [F, C, k, k], mix [1], all float32, and the geometry [stride,
// padding + 1, norm], see layer.h; output dw as w, before any adaptive rate.
int AdderWeightGrad(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunWeightGrad<Floats>({count, data, ranks, shapes, types});
}

// The same in fixed point, for a mix of 1. A depthwise layer is computed in floats.
int AdderWeightGradInt16(int count, void **data, int *ranks, int64_t **shapes, const char **types, void *, void *) {
  return RunWeightGrad<Fixed>({count, data, ranks, shapes, types});
}

}  // extern "C"
