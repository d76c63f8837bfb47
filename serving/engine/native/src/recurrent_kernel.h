// The recurrence itself, once for all processors. A file that includes it has defined, in its own unnamed namespace:
//   F, kWidth                                  a vector of floats and how many it has
//   load store set1 add sub mul div lesser greater power2; fma: a * b + c; minus_product: c - a * b
//   kTile, kVectors                            rows of a full tile; vectors that hold 16 channels
//   largest_magnitude largest_distance round_row   what quantizing a row takes (rows_avx2.h says what each gives)
//   strip<rows, gates>(Strip)                  exact products of some rows with 16 channels of some gates
//
// No function here may be shared between files (templates of the standard library neither): the linker would take one
// of them for all, compiled for a processor that this machine may not have.
//
// Floating point: every operation is written out (contraction is off), element by element in the same order whatever the
// vector's width, so that all processors give the same bits.
#pragma once
#include <cstring>

#include "layer.h"
#include "scale.h"
#include "workspace.h"

namespace lstm_native {
namespace {

// ---- elementary functions ----

// |x| beyond this changes no gate by more than 2.1e-9; products of three exponentials stay far from overflow.
constexpr float kLargestExponent = 20.0f;

struct Exponential {
  F power, rest;  // e^-x = power * (1 - rest)
};

// e^-x = 2^n * e^-f with |f| <= ln(2) / 2, as 1 - (f - f^2 * P(f)); P's coefficients minimise the largest relative error,
// which is 1.1e-7 before rounding. Sigmoid and tanh made of it are within 3e-7 of the true ones.
inline Exponential exponential_of_minus(F x) {
  x = greater(lesser(x, set1(kLargestExponent)), set1(-kLargestExponent));
  const F magic = set1(12582912.0f);  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const F shifted = fma(x, set1(-1.44269504088896341f), magic);
  const F f = fma(sub(shifted, magic), set1(0.69314718055994531f), x);
  F p = fma(f, set1(8.314776726e-3f), set1(-4.189046049e-2f));
  p = fma(p, f, set1(0.1666708897f));
  p = fma(p, f, set1(-0.4999922974f));
  return {power2(shifted), fma(mul(f, f), p, f)};
}

// 1 + e^-x: the divisor of a sigmoid.
inline F sigmoid_divisor(F x) {
  const Exponential e = exponential_of_minus(x);
  return add(set1(1.0f), minus_product(e.power, e.rest, e.power));
}

// 1 - e^-2x and 1 + e^-2x: a tanh is their quotient. The first is exact near zero too.
struct Tanh {
  F dividend, divisor;
};

inline Tanh tanh_parts(F x) {
  const Exponential e = exponential_of_minus(add(x, x));
  const F dividend = fma(e.power, e.rest, sub(set1(1.0f), e.power));
  return {dividend, sub(set1(2.0f), dividend)};
}

inline F sigmoid(F x) { return div(set1(1.0f), sigmoid_divisor(x)); }

inline F tanh_of(F x) {
  const Tanh t = tanh_parts(x);
  return div(t.dividend, t.divisor);
}

// ---- products ----

constexpr int gates_at_once(int rows, int gates) {
  for (int g = gates; g > 1; --g)
    if (gates % g == 0 && rows * g * kVectors <= 8) return g;
  return 1;
}

__attribute__((always_inline)) inline Strip moved(Strip s, int row, int gate) {
  s.values += static_cast<size_t>(row) * s.stride;
  s.offsets += row;
  s.row_scales += row;
  s.weights += gate * s.gate_bytes;
  if (s.middles != nullptr) {
    s.middles += row;
    s.column_sums += gate * kUnits;
  }
  s.channel_scales += gate * kUnits;
  s.addend += row * s.addend_row + gate * kUnits;
  s.out += row * s.out_row + gate * kUnits;
  return s;
}

template <int Rows, int Gates>
void rest(const Strip& s, int rows) {
  if constexpr (Rows > 0) {
    if (rows != Rows) return rest<Rows - 1, Gates>(s, rows);
    constexpr int kAtOnce = gates_at_once(Rows, Gates);
    for (int gate = 0; gate < Gates; gate += kAtOnce) strip<Rows, kAtOnce>(moved(s, 0, gate));
  }
}

// One block: a gate's weights stay in the first cache while all rows pass over them.
template <int Gates>
void product(const Strip& s, int rows) {
  const int full = rows / kTile * kTile;
  for (int gate = 0; gate < Gates && full > 0; ++gate)
    for (int row = 0; row < full; row += kTile) strip<kTile, 1>(moved(s, row, gate));
  rest<kTile - 1, Gates>(moved(s, full, 0), rows - full);
}

// Gates `first` and following of a block of a matrix, for the rows of `activations` from `row` on.
inline Strip strip_of(const Matrix& matrix, int gates, int block, int first, const Activations& activations, int row) {
  Strip s{};
  s.octets = matrix.octets;
  s.gate_bytes = static_cast<size_t>(matrix.octets) * kOctet * kUnits;
  s.weights = matrix.weights + (static_cast<size_t>(block) * gates + first) * s.gate_bytes;
  s.channel_scales = matrix.scales + (static_cast<size_t>(block) * gates + first) * kUnits;
  s.stride = activations.stride;
  s.values = activations.values + static_cast<size_t>(row) * s.stride;
  s.offsets = activations.offsets + row;
  s.row_scales = activations.scales + row;
  if (activations.middles != nullptr) {
    s.middles = activations.middles + row;
    s.column_sums = matrix.column_sums + (static_cast<size_t>(block) * gates + first) * kUnits;
  }
  return s;
}

// Quantize a row around its middle, if it is to have one, or around zero. False if a value is not finite.
inline bool quantize(const float* x, int columns, const Activations& to, int row) {
  float middle = 0.0f;
  const float largest =
      to.middles == nullptr ? largest_magnitude(x, columns) : largest_distance(x, columns, &middle);
  if (!(largest < kLargestRow)) return false;
  int8_t* values = to.values + static_cast<size_t>(row) * to.stride;
  Scale s = first_scale(largest);
  const int group = round_row(x, columns, to.stride, middle, s.inverse, values, to.offsets + row);
  if (group > kLargestGroup) {
    s = wider_scale(s, group);
    round_row(x, columns, to.stride, middle, s.inverse, values, to.offsets + row);
  }
  to.scales[row] = s.scale;
  if (to.middles != nullptr) to.middles[row] = middle;
  return true;
}

// ---- the recurrence ----

template <Operator Kind>
class Recurrence {
 public:
  explicit Recurrence(Lane& lane)
      : lane_(lane),
        layer_(*lane.layer),
        direction_(lane.layer->direction[lane.direction]),
        carver_{lane.workspace},
        buffers_(carver_, *lane.layer, lane.rows) {}

  void run() {
    lane_.bad_row = -1;
    start();
    int step = 0;
    const int steps = lane_.lengths[0];
    active_ = lane_.rows;
    while (step < steps) {
      const int stop = multiply_inputs(step, steps);
      if (lane_.bad_row >= 0) return;
      int first = 0;
      for (; step < stop; ++step) {
        drop_finished(step);
        advance(first);
        first += active_;
        if (!finish(step)) return;
      }
    }
    clear_padding();
  }

 private:
  static constexpr int kGates = Kind == Operator::kLstm ? 4 : Kind == Operator::kGru ? 3 : 1;

  float* h(int row) const { return buffers_.state_h + static_cast<size_t>(row) * buffers_.width; }
  float* c(int row) const { return buffers_.state_c + static_cast<size_t>(row) * buffers_.width; }
  float* update_gate(int row) const { return buffers_.update_gate + static_cast<size_t>(row) * buffers_.width; }
  float* gates(int row) const { return buffers_.gates + static_cast<size_t>(row) * kGates * kUnits; }
  ptrdiff_t product_row() const { return static_cast<ptrdiff_t>(buffers_.width) * kGates; }
  const float* biases(int block) const { return direction_.biases + static_cast<size_t>(block) * layer_.bias_gates * kUnits; }

  void load_state(const float* from, float* to, int row) {
    std::memset(to, 0, sizeof(float) * buffers_.width);
    if (from != nullptr)
      std::memcpy(to, from + static_cast<size_t>(lane_.row[row]) * layer_.hidden, sizeof(float) * layer_.hidden);
  }

  void start() {
    for (int row = 0; row < lane_.rows; ++row) {
      load_state(lane_.initial_h, h(row), row);
      if (Kind == Operator::kLstm) load_state(lane_.initial_c, c(row), row);
      if (!quantize(h(row), layer_.hidden, buffers_.h, row)) lane_.bad_row = lane_.row[row];
    }
  }

  int active_at(int step, int most) const {
    while (most > 0 && lane_.lengths[most - 1] <= step) --most;
    return most;
  }

  void drop_finished(int step) { active_ = active_at(step, active_); }

  // Quantize and multiply the inputs of as many steps as fit; returns the step after them.
  int multiply_inputs(int step, int steps) {
    int rows = 0, active = active_;
    for (; step < steps; ++step) {
      active = active_at(step, active);
      if (rows > 0 && rows + active > buffers_.product_rows) break;
      for (int row = 0; row < active; ++row, ++rows) {
        const int time = direction_.reverse ? lane_.lengths[row] - 1 - step : step;
        const float* x = lane_.x + time * lane_.x_time + lane_.row[row] * lane_.x_row;
        if (!quantize(x, layer_.inputs, buffers_.x, rows)) lane_.bad_row = lane_.row[row];
      }
    }
    for (int block = 0; block < layer_.blocks; ++block) {
      Strip s = strip_of(direction_.input, kGates, block, 0, buffers_.x, 0);
      s.addend = biases(block);
      s.addend_row = 0;
      s.out = buffers_.product + static_cast<size_t>(block) * kGates * kUnits;
      s.out_row = product_row();
      product<kGates>(s, rows);
    }
    return step;
  }

  // Gates `First` to `First + Gates` of a block for all active rows: recurrent product plus `addend`.
  template <int First, int Gates>
  void multiply_state(int block, const float* addend, ptrdiff_t addend_row) {
    Strip s = strip_of(direction_.recurrent, kGates, block, First, buffers_.h, 0);
    s.addend = addend;
    s.addend_row = addend_row;
    s.out = buffers_.gates + First * kUnits;
    s.out_row = kGates * kUnits;
    product<Gates>(s, active_);
  }

  // One step of all active rows; `first` is the row of the input product where it begins.
  void advance(int first) {
    const float* inputs = buffers_.product + first * product_row();
    for (int block = 0; block < layer_.blocks; ++block) {
      const float* addend = inputs + static_cast<size_t>(block) * kGates * kUnits;
      if constexpr (Kind == Operator::kGru) {
        multiply_state<0, 2>(block, addend, product_row());
        if (layer_.linear_before_reset) multiply_state<2, 1>(block, biases(block) + 3 * kUnits, 0);
      } else {
        multiply_state<0, kGates>(block, addend, product_row());
      }
      // Two passes: what a cell computes is one long chain, and half of it leaves a processor room for twice the cells.
      if constexpr (Kind != Operator::kRnn)
        for (int row = 0; row < active_; ++row)
          for (int unit = 0; unit < kUnits; unit += kWidth) begin_cell(row, gates(row) + unit, block, unit);
      if (!resets_first())
        for (int row = 0; row < active_; ++row)
          for (int unit = 0; unit < kUnits; unit += kWidth)
            end_cell(row, gates(row) + unit, addend + row * product_row() + unit, block, unit);
    }
    if (resets_first()) reset_first(inputs);
  }

  bool resets_first() const { return Kind == Operator::kGru && !layer_.linear_before_reset; }

  // GRU whose reset gate acts on the state before the candidate's product (the definition of Cho et al., 2014).
  void reset_first(const float* inputs) {
    for (int row = 0; row < active_; ++row) quantize(c(row), layer_.hidden, buffers_.h, row);
    for (int block = 0; block < layer_.blocks; ++block) {
      const float* addend = inputs + (static_cast<size_t>(block) * kGates + 2) * kUnits;
      multiply_state<2, 1>(block, addend, product_row());
      for (int row = 0; row < active_; ++row)
        for (int unit = 0; unit < kUnits; unit += kWidth) {
          const size_t at = block * kUnits + unit;
          blend(h(row) + at, load(update_gate(row) + at), tanh_of(load(gates(row) + 2 * kUnits + unit)));
        }
    }
  }

  static void blend(float* state, F update, F candidate) {
    store(state, fma(update, sub(load(state), candidate), candidate));
  }

  // LSTM: the next c. GRU: its two gates, in their places or where the product of the reset state needs them.
  void begin_cell(int row, float* gate, int block, int unit) {
    const int at = block * kUnits + unit;
    if constexpr (Kind == Operator::kLstm) {
      F input = load(gate), forget = load(gate + 2 * kUnits);
      const Tanh candidate = tanh_parts(load(gate + 3 * kUnits));
      const F before = load(c(row) + at);
      if (const float* peephole = peepholes(block, unit); peephole != nullptr) {
        input = fma(load(peephole), before, input);
        forget = fma(load(peephole + 2 * kUnits), before, forget);
      }
      const F kept = div(before, sigmoid_divisor(forget));
      const F added = div(candidate.dividend, mul(sigmoid_divisor(input), candidate.divisor));
      store(c(row) + at, add(kept, added));
    } else {
      const F update = sigmoid(load(gate)), reset = sigmoid(load(gate + kUnits));
      if (resets_first()) {
        store(update_gate(row) + at, update);
        store(c(row) + at, mul(reset, load(h(row) + at)));
      } else {
        store(gate, update);
        store(gate + kUnits, reset);
      }
    }
  }

  // The next h.
  void end_cell(int row, const float* gate, const float* input, int block, int unit) {
    const int at = block * kUnits + unit;
    if constexpr (Kind == Operator::kLstm) {
      F output = load(gate + kUnits);
      const F after = load(c(row) + at);
      if (const float* peephole = peepholes(block, unit); peephole != nullptr)
        output = fma(load(peephole + kUnits), after, output);
      const Tanh squashed = tanh_parts(after);
      store(h(row) + at, div(squashed.dividend, mul(sigmoid_divisor(output), squashed.divisor)));
    } else if constexpr (Kind == Operator::kGru) {
      const F reset = load(gate + kUnits);
      blend(h(row) + at, load(gate), tanh_of(fma(reset, load(gate + 2 * kUnits), load(input + 2 * kUnits))));
    } else {
      const F value = load(gate);
      store(h(row) + at, layer_.relu ? greater(value, set1(0.0f)) : tanh_of(value));
    }
  }

  const float* peepholes(int block, int unit) const {
    if (direction_.peepholes == nullptr) return nullptr;
    return direction_.peepholes + static_cast<size_t>(block) * 3 * kUnits + unit;
  }

  // Hand the step's states out, and quantize them for the next.
  bool finish(int step) {
    for (int row = 0; row < active_; ++row) {
      const size_t bytes = sizeof(float) * layer_.hidden;
      const int batch_row = lane_.row[row], length = lane_.lengths[row];
      const int time = direction_.reverse ? length - 1 - step : step;
      if (lane_.y != nullptr) std::memcpy(lane_.y + time * lane_.y_time + batch_row * lane_.y_row, h(row), bytes);
      if (!quantize(h(row), layer_.hidden, buffers_.h, row)) {
        lane_.bad_row = batch_row;
        return false;
      }
      if (step + 1 < length) continue;
      std::memcpy(lane_.y_h + static_cast<size_t>(batch_row) * layer_.hidden, h(row), bytes);
      if (Kind == Operator::kLstm)
        std::memcpy(lane_.y_c + static_cast<size_t>(batch_row) * layer_.hidden, c(row), bytes);
    }
    return true;
  }

  void clear_padding() {
    if (lane_.y == nullptr) return;
    for (int row = 0; row < lane_.rows; ++row)
      for (int time = lane_.lengths[row]; time < lane_.time; ++time)
        std::memset(lane_.y + time * lane_.y_time + lane_.row[row] * lane_.y_row, 0, sizeof(float) * layer_.hidden);
  }

  Lane& lane_;
  const Layer& layer_;
  const Direction& direction_;
  Carver carver_;
  Buffers buffers_;
  int active_ = 0;
};

void run_lane(Lane& lane) {
  switch (lane.layer->kind) {
    case Operator::kLstm: return Recurrence<Operator::kLstm>(lane).run();
    case Operator::kGru: return Recurrence<Operator::kGru>(lane).run();
    case Operator::kRnn: return Recurrence<Operator::kRnn>(lane).run();
  }
}

void exact_sums(const Matrix& matrix, int blocks, int gates, const float* x, int rows, float* sums, float* scales,
                char* workspace) {
  Carver carver{workspace};
  Activations activations(carver, matrix.columns, rows, matrix.column_sums != nullptr);
  float* ones = carver.take<float>(4 * kUnits > rows ? 4 * kUnits : rows);
  float* zeros = carver.take<float>(4 * kUnits);
  for (int i = 0; i < 4 * kUnits || i < rows; ++i) ones[i] = 1.0f;
  std::memset(zeros, 0, sizeof(float) * 4 * kUnits);
  for (int row = 0; row < rows; ++row) quantize(x + static_cast<size_t>(row) * matrix.columns, matrix.columns, activations, row);
  std::memcpy(scales, activations.scales, sizeof(float) * rows);
  for (int block = 0; block < blocks; ++block) {
    Strip s = strip_of(matrix, gates, block, 0, activations, 0);
    s.row_scales = s.channel_scales = ones;
    s.middles = nullptr;
    s.addend = zeros;
    s.out = sums + static_cast<size_t>(block) * gates * kUnits;
    s.out_row = static_cast<ptrdiff_t>(blocks) * gates * kUnits;
    if (gates == 4) product<4>(s, rows);
    if (gates == 3) product<3>(s, rows);
    if (gates == 1) product<1>(s, rows);
  }
}

}  // namespace
}  // namespace lstm_native
