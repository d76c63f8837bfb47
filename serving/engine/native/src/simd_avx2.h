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
inline F lesser(F a, F b) { return _mm256_min_ps(a, b); }   // a < b ? a : b, so b for NaN
inline F greater(F a, F b) { return _mm256_max_ps(a, b); }  // a > b ? a : b
// 2^n for a float that holds n in its low bits.
inline F power2(F shifted) {
  const __m256i one = _mm256_castps_si256(_mm256_set1_ps(1.0f));
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_slli_epi32(_mm256_castps_si256(shifted), 23), one));
}

// The end of a tile: integers become floats and meet what they are added to.
inline void scale_and_add(const Strip& s, int row, int gate, int vector, __m256i sums) {
  const ptrdiff_t at = gate * kUnits + vector * 8;
  const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(s.row_scales[row]), _mm256_loadu_ps(s.channel_scales + at));
  __m256 addend = _mm256_loadu_ps(s.addend + row * s.addend_row + at);
  if (s.middles != nullptr)
    addend = _mm256_fmadd_ps(_mm256_set1_ps(s.middles[row]), _mm256_loadu_ps(s.column_sums + at), addend);
  _mm256_storeu_ps(s.out + row * s.out_row + at, _mm256_fmadd_ps(_mm256_cvtepi32_ps(sums), scale, addend));
}

}  // namespace
}  // namespace lstm_native
