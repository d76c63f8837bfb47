// AVX2: products of bytes in pairs of 16 bits (vpmaddubsw); two pairs are added before they are widened (vpmaddwd).
//
// Weights w + 64 are unsigned, 1 to 127. What a group of four activations can add up to is bounded when a row is quantized
// (scale.h), so neither a pair nor the sum of two leaves 16 bits: exact, with one widening for two products.
#include "rows_avx2.h"
#include "simd_avx2.h"

namespace lstm_native {
namespace {

constexpr int kTile = 4;
constexpr int kVectors = 2;

// From this length on, the weights of a layer come from beyond the second cache.
constexpr int kFarOctets = 64;

// Adds up all products of a strip. `Ahead` asks for the next strip's weights, which lie behind these: processors guess
// them too late where one pass over many weights meets few rows (up to 16 % of the time at hidden 1024, measured).
template <int Rows, int Gates, bool Ahead>
__attribute__((always_inline)) inline void add_products(const Strip& s, __m256i (&sums)[Rows][Gates][2]) {
  const __m256i ones = _mm256_set1_epi16(1);
  const uint8_t* weights = s.weights;
  const int8_t* values = s.values;
  const size_t stride = s.stride, gate_bytes = s.gate_bytes;
  for (int octet = s.octets; octet > 0; --octet, weights += kOctet * kUnits, values += kOctet) {
    if constexpr (Ahead) {
      _mm_prefetch(reinterpret_cast<const char*>(weights + gate_bytes), _MM_HINT_T1);
      _mm_prefetch(reinterpret_cast<const char*>(weights + gate_bytes + 64), _MM_HINT_T1);
    }
    __m256i first[Gates][2], second[Gates][2];
#pragma GCC unroll 8
    for (int gate = 0; gate < Gates; ++gate)
#pragma GCC unroll 8
      for (int v = 0; v < 2; ++v) {
        const auto* w = reinterpret_cast<const __m256i*>(weights + gate * gate_bytes) + v;
        first[gate][v] = _mm256_load_si256(w);
        second[gate][v] = _mm256_load_si256(w + 2);
      }
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const __m256i a = broadcast(values + row * stride), b = broadcast(values + row * stride + 4);
#pragma GCC unroll 8
      for (int gate = 0; gate < Gates; ++gate)
#pragma GCC unroll 8
        for (int v = 0; v < 2; ++v) {
          const __m256i pairs =
              _mm256_add_epi16(_mm256_maddubs_epi16(first[gate][v], a), _mm256_maddubs_epi16(second[gate][v], b));
          sums[row][gate][v] = _mm256_add_epi32(sums[row][gate][v], _mm256_madd_epi16(pairs, ones));
        }
    }
  }
}

template <int Rows, int Gates>
__attribute__((always_inline)) inline void strip(const Strip& s) {
  __m256i sums[Rows][Gates][2];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int gate = 0; gate < Gates; ++gate)
#pragma GCC unroll 8
      for (int v = 0; v < 2; ++v) sums[row][gate][v] = _mm256_set1_epi32(s.offsets[row]);
  if (Rows == kTile && s.octets >= kFarOctets)
    add_products<Rows, Gates, true>(s, sums);
  else
    add_products<Rows, Gates, false>(s, sums);
  finish(s, sums);
}

}  // namespace
}  // namespace lstm_native

#include "recurrent_kernel.h"

namespace lstm_native {
extern const Kernels kAvx2Kernels;
const Kernels kAvx2Kernels{"avx2", run_lane, exact_sums};
}  // namespace lstm_native
