// Rows of floats to rows of bytes, with AVX2.
#pragma once
#include <immintrin.h>

#include <cstdint>

#include "layer.h"

namespace lstm_native {
namespace {

// Eight values, or those that are left; the lanes beyond hold `filling`.
inline __m256 values_at(const float* x, int left, __m256 filling) {
  if (left >= 8) return _mm256_loadu_ps(x);
  if (left <= 0) return filling;
  const __m256i wanted = _mm256_cmpgt_epi32(_mm256_set1_epi32(left), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_blendv_ps(filling, _mm256_maskload_ps(x, wanted), _mm256_castsi256_ps(wanted));
}

inline float largest_of(__m256 v) {
  __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  four = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(four, _mm_shuffle_ps(four, four, 1)));
}

inline int32_t sum_of(__m256i v) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}

// Largest |x|; NaN and infinity come out as infinity, because bits of floats without sign are in the order of integers.
inline float largest_magnitude(const float* x, int columns) {
  const __m256i no_sign = _mm256_set1_epi32(0x7fffffff);
  __m256i largest = _mm256_setzero_si256();
  for (int i = 0; i < columns; i += 8) {
    const __m256 v = values_at(x + i, columns - i, _mm256_setzero_ps());
    largest = _mm256_max_epi32(largest, _mm256_and_si256(_mm256_castps_si256(v), no_sign));
  }
  largest = _mm256_min_epi32(largest, _mm256_set1_epi32(0x7f800000));
  return largest_of(_mm256_castsi256_ps(largest));
}

// Half way between the smallest and the largest value, and how far they are from it; infinity if a value is not finite.
inline float largest_distance(const float* x, int columns, float* middle) {
  const __m256 first = _mm256_set1_ps(x[0]), zero = _mm256_setzero_ps();
  __m256 smallest = first, largest = first, tainted = zero;
  for (int i = 0; i < columns; i += 8) {
    const __m256 v = values_at(x + i, columns - i, first);
    smallest = _mm256_min_ps(smallest, v);
    largest = _mm256_max_ps(largest, v);
    tainted = _mm256_fmadd_ps(v, zero, tainted);
  }
  if (_mm256_movemask_ps(_mm256_cmp_ps(tainted, zero, _CMP_NEQ_UQ)) != 0) return __builtin_inff();
  const float low = -largest_of(_mm256_sub_ps(zero, smallest)), high = largest_of(largest);
  *middle = 0.5f * low + 0.5f * high;
  const float above = high - *middle, below = *middle - low;
  return above > below ? above : below;
}

inline __m256i rounded(__m256 x, __m256 middle, __m256 inverse) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(x, middle), inverse));
}

// Round a row to bytes, and say what undoes the weights' zero; returns its largest sum of a group's values of one sign.
inline int round_row(const float* x, int columns, int stride, float middle, float inverse, int8_t* values,
                     int32_t* offset) {
  const __m256 centre = _mm256_set1_ps(middle), factor = _mm256_set1_ps(inverse);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), zero = _mm256_setzero_si256();
  const __m256i ones8 = _mm256_set1_epi8(1), ones16 = _mm256_set1_epi16(1);
  __m256i total = zero, largest = zero;
  for (int i = 0; i < stride; i += kActivationPad) {
    __m256i four[4];
    for (int k = 0; k < 4; ++k)
      four[k] = rounded(values_at(x + i + 8 * k, columns - i - 8 * k, centre), centre, factor);
    const __m256i packed = _mm256_packs_epi16(_mm256_packs_epi32(four[0], four[1]), _mm256_packs_epi32(four[2], four[3]));
    const __m256i bytes = _mm256_permutevar8x32_epi32(packed, order);
    _mm256_store_si256(reinterpret_cast<__m256i*>(values + i), bytes);
    const __m256i positive = _mm256_maddubs_epi16(_mm256_max_epi8(bytes, zero), ones8);
    const __m256i negative = _mm256_maddubs_epi16(_mm256_max_epi8(_mm256_sub_epi8(zero, bytes), zero), ones8);
    total = _mm256_add_epi32(total, _mm256_madd_epi16(_mm256_sub_epi16(positive, negative), ones16));
    largest = _mm256_max_epi16(largest, _mm256_add_epi16(positive, _mm256_srli_epi64(positive, 32)));
    largest = _mm256_max_epi16(largest, _mm256_add_epi16(negative, _mm256_srli_epi64(negative, 32)));
  }
  *offset = -kZero * sum_of(total);
  largest = _mm256_max_epi16(largest, _mm256_srli_epi32(largest, 16));
  __m128i pairs = _mm_max_epi16(_mm256_castsi256_si128(largest), _mm256_extracti128_si256(largest, 1));
  pairs = _mm_max_epi16(pairs, _mm_shuffle_epi32(pairs, 0x4e));
  return _mm_cvtsi128_si32(pairs) & 0xffff;  // the upper half of each 64 bits has no whole group
}

inline __m256i broadcast(const void* four_bytes) {
  int32_t value;
  __builtin_memcpy(&value, four_bytes, 4);
  return _mm256_set1_epi32(value);
}

}  // namespace
}  // namespace lstm_native
