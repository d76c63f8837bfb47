// AVX-VNNI: four products of an unsigned and a signed byte, added in 32 bits (vpdpbusd), always exact.
#include "rows_avx2.h"
#include "simd_avx2.h"

namespace lstm_native {
namespace {

constexpr int kTile = 4;
constexpr int kVectors = 2;

template <int Rows, int Gates>
__attribute__((always_inline)) inline void strip(const Strip& s) {
  __m256i sums[Rows][Gates][2];
#pragma GCC unroll 8
  for (int row = 0; row < Rows; ++row)
#pragma GCC unroll 8
    for (int gate = 0; gate < Gates; ++gate)
#pragma GCC unroll 8
      for (int v = 0; v < 2; ++v) sums[row][gate][v] = _mm256_set1_epi32(s.offsets[row]);
  const uint8_t* weights = s.weights;
  for (int quad = 0; quad < s.octets * 2; ++quad, weights += 4 * kUnits) {
#pragma GCC unroll 8
    for (int row = 0; row < Rows; ++row) {
      const __m256i values = broadcast(s.values + static_cast<size_t>(row) * s.stride + quad * 4);
#pragma GCC unroll 8
      for (int gate = 0; gate < Gates; ++gate)
#pragma GCC unroll 8
        for (int v = 0; v < 2; ++v) {
          const auto* w = reinterpret_cast<const __m256i*>(weights + gate * s.gate_bytes) + v;
          sums[row][gate][v] = _mm256_dpbusd_avx_epi32(sums[row][gate][v], _mm256_load_si256(w), values);
        }
    }
  }
  finish(s, sums);
}

}  // namespace
}  // namespace lstm_native

#include "recurrent_kernel.h"

namespace lstm_native {
extern const Kernels kAvxVnniKernels;
const Kernels kAvxVnniKernels{"avxvnni", run_lane, exact_sums};
}  // namespace lstm_native
