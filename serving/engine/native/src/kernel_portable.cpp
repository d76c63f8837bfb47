// Plain C++ for processors that have no kernel of their own; a compiler may turn its loops into whatever it knows.
#include <cmath>
#include <cstring>

#include "layer.h"
#include "strip.h"

namespace lstm_native {
namespace {

using F = float;
constexpr int kWidth = 1;
constexpr int kTile = 4;
constexpr int kVectors = 2;

inline F load(const float* p) { return *p; }
inline void store(float* p, F v) { *p = v; }
inline F set1(float v) { return v; }
inline F add(F a, F b) { return a + b; }
inline F sub(F a, F b) { return a - b; }
inline F mul(F a, F b) { return a * b; }
inline F div(F a, F b) { return a / b; }
inline F fma(F a, F b, F c) { return __builtin_fmaf(a, b, c); }
inline F minus_product(F a, F b, F c) { return __builtin_fmaf(-a, b, c); }
inline F lesser(F a, F b) { return a < b ? a : b; }
inline F greater(F a, F b) { return a > b ? a : b; }
inline F power2(F shifted) {
  uint32_t bits;
  std::memcpy(&bits, &shifted, 4);
  bits = (bits << 23) + 0x3f800000u;
  std::memcpy(&shifted, &bits, 4);
  return shifted;
}

inline float largest_magnitude(const float* x, int columns) {
  float largest = 0.0f;
  for (int i = 0; i < columns; ++i) {
    if (!std::isfinite(x[i])) return __builtin_inff();
    largest = greater(largest, greater(x[i], -x[i]));
  }
  return largest;
}

inline float largest_distance(const float* x, int columns, float* middle) {
  float low = x[0], high = x[0];
  for (int i = 0; i < columns; ++i) {
    if (!std::isfinite(x[i])) return __builtin_inff();
    low = lesser(low, x[i]);
    high = greater(high, x[i]);
  }
  *middle = 0.5f * low + 0.5f * high;
  return greater(high - *middle, *middle - low);
}

inline int round_row(const float* x, int columns, int stride, float middle, float inverse, int8_t* values,
                     int32_t* offset) {
  *offset = 0;
  for (int i = 0; i < stride; ++i) {
    values[i] = i < columns ? static_cast<int8_t>(__builtin_lrintf((x[i] - middle) * inverse)) : 0;
    *offset -= kZero * values[i];
  }
  int largest = 0;
  for (int i = 0; i < stride; i += kOctet)
    for (int k = i; k < i + kGroup; k += 2) {
      int positive = 0, negative = 0;
      for (int j = 0; j < kGroup; ++j) {
        const int value = values[k + j % 2 + j / 2 * 4];
        (value > 0 ? positive : negative) += value;
      }
      const int larger = positive > -negative ? positive : -negative;
      largest = larger > largest ? larger : largest;
    }
  return largest;
}

template <int Rows, int Gates>
void strip(const Strip& s) {
  for (int row = 0; row < Rows; ++row)
    for (int gate = 0; gate < Gates; ++gate) {
      int32_t sums[kUnits];
      for (int unit = 0; unit < kUnits; ++unit) sums[unit] = s.offsets[row];
      const uint8_t* weights = s.weights + gate * s.gate_bytes;
      const int8_t* values = s.values + static_cast<size_t>(row) * s.stride;
      for (int quad = 0; quad < s.octets * 2; ++quad, weights += 4 * kUnits, values += 4)
        for (int unit = 0; unit < kUnits; ++unit)
          for (int k = 0; k < 4; ++k) sums[unit] += weights[unit * 4 + k] * values[k];
      for (int unit = 0; unit < kUnits; ++unit) {
        const ptrdiff_t at = gate * kUnits + unit;
        float addend = s.addend[row * s.addend_row + at];
        if (s.middles != nullptr) addend = fma(s.middles[row], s.column_sums[at], addend);
        s.out[row * s.out_row + at] =
            fma(static_cast<float>(sums[unit]), s.row_scales[row] * s.channel_scales[at], addend);
      }
    }
}

}  // namespace
}  // namespace lstm_native

#include "recurrent_kernel.h"

namespace lstm_native {
extern const Kernels kPortableKernels;
const Kernels kPortableKernels{"portable", run_lane, exact_sums};

size_t workspace_bytes(const Lane& lane) {
  Carver carver{nullptr};
  Buffers buffers(carver, *lane.layer, lane.rows);
  return carver.used;
}

size_t sums_workspace_bytes(const Matrix& matrix, int rows) {
  Carver carver{nullptr};
  Activations activations(carver, matrix.columns, rows, matrix.column_sums != nullptr);
  carver.take<float>(4 * kUnits > rows ? 4 * kUnits : rows);
  carver.take<float>(4 * kUnits);
  return carver.used;
}
}  // namespace lstm_native
