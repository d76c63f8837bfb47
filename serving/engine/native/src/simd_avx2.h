// Vectors of eight floats: AVX2 and FMA.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "layer.h"
#include "strip.h"

namespace lstm_native {
namespace {

using F = __m256;
constexpr int kWidth = 8;

inline F load(const float* p) { return _mm256_loadu_ps(p); }
inline void store(float* p, F v) { _mm256_storeu_ps(p, v); }
inline F set1(float v) { return _mm256_set1_ps(v); }
inline F add(F a, F b) { return _mm256_add_ps(a, b); }
inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
inline F div(F a, F b) { return _mm256_div_ps(a, b); }
inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F minus_product(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
inline F lesser(F a, F b) { return _mm256_min_ps(a, b); }   // a < b ? a : b, so b for NaN
inline F greater(F a, F b) { return _mm256_max_ps(a, b); }  // a > b ? a : b
// 2^n for a float that holds n in its low bits.
inline F power2(F shifted) {
  const __m256i one = _mm256_castps_si256(_mm256_set1_ps(1.0f));
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23), one));
}

template <int Rows, int Gates, bool Centred>
__attribute__((always_inline)) inline void scale_and_add(const Strip& s, const __m256i (&sums)[Rows][Gates][2]) {
  float* __restrict__ out = s.out;  // which none of the others is
#pragma GCC unroll 8
  for (int gate = 0; gate < Gates; ++gate)
#pragma GCC unroll 8
    for (int v = 0; v < 2; ++v) {
      const int at = gate * kUnits + v * 8;
      const __m256 channels = _mm256_loadu_ps(s.channel_scales + at);
      __m256 columns;
      if constexpr (Centred) columns = _mm256_loadu_ps(s.column_sums + at);
#pragma GCC unroll 8
      for (int row = 0; row < Rows; ++row) {
        const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(s.row_scales[row]), channels);
        __m256 addend = _mm256_loadu_ps(s.addend + row * s.addend_row + at);
        if constexpr (Centred) addend = _mm256_fmadd_ps(_mm256_set1_ps(s.middles[row]), columns, addend);
        _mm256_storeu_ps(out + row * s.out_row + at,
                         _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums[row][gate][v]), scale, addend));
      }
    }
}

// The end of a tile: integers become floats and meet what they are added to.
template <int Rows, int Gates>
__attribute__((always_inline)) inline void finish(const Strip& s, const __m256i (&sums)[Rows][Gates][2]) {
  if (s.middles != nullptr)
    scale_and_add<Rows, Gates, true>(s, sums);
  else
    scale_and_add<Rows, Gates, false>(s, sums);
}

}  // namespace
}  // namespace lstm_native
