// AVX512-VNNI: as AVX-VNNI, with 16 channels in one vector.
#include <immintrin.h>

#include "layer.h"
#include "rows_avx2.h"
#include "strip.h"

namespace lstm_native {
namespace {

using F = __m512;
constexpr int kWidth = 16;
constexpr int kTile = 8;
constexpr int kVectors = 1;

inline F load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F v) { _mm512_storeu_ps(p, v); }
inline F set1(float v) { return _mm512_set1_ps(v); }
inline F add(F a, F b) { return _mm512_add_ps(a, b); }
inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F div(F a, F b) { return _mm512_div_ps(a, b); }
inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F minus_product(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
inline F lesser(F a, F b) { return _mm512_min_ps(a, b); }
inline F greater(F a, F b) { return _mm512_max_ps(a, b); }
inline F power2(F shifted) {
  const __m512i one = _mm512_castps_si512(_mm512_set1_ps(1.0f));
  return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_slli_epi32(_mm512_castps_si512(shifted), 23), one));
}

inline __m512i broadcast512(const void* four_bytes) {
  int32_t value;
  __builtin_memcpy(&value, four_bytes, 4);
  return _mm512_set1_epi32(value);
}

template <int Rows, int Gates>
__attribute__((always_inline)) inline void strip(const Strip& s) {
  __m512i sums[Rows][Gates];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int gate = 0; gate < Gates; ++gate) sums[row][gate] = _mm512_set1_epi32(s.offsets[row]);
  const uint8_t* weights = s.weights;
  for (int quad = 0; quad < s.octets * 2; ++quad, weights += 4 * kUnits) {
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const __m512i values = broadcast512(s.values + static_cast<size_t>(row) * s.stride + quad * 4);
#pragma GCC unroll 8
      for (int gate = 0; gate < Gates; ++gate)
        sums[row][gate] =
            _mm512_dpbusd_epi32(sums[row][gate], _mm512_load_si512(weights + gate * s.gate_bytes), values);
    }
  }
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int gate = 0; gate < Gates; ++gate) {
      const ptrdiff_t at = gate * kUnits;
      F addend = load(s.addend + row * s.addend_row + at);
      if (s.middles != nullptr) addend = fma(set1(s.middles[row]), load(s.column_sums + at), addend);
      const F scale = mul(set1(s.row_scales[row]), load(s.channel_scales + at));
      store(s.out + row * s.out_row + at,
            fma(_mm512_cvtepi32_ps(sums[row][gate]), scale, addend));
    }
}

}  // namespace
}  // namespace lstm_native

#include "recurrent_kernel.h"

namespace lstm_native {
extern const Kernels kAvx512VnniKernels;
const Kernels kAvx512VnniKernels{"avx512vnni", run_lane, exact_sums};
}  // namespace lstm_native
