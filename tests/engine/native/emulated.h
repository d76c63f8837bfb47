// Included before a kernel's own text: SIMDe (Debian's libsimde-dev) computes the VNNI and AVX-512 instructions with those
// that this processor has, so that their kernels run here too.
#pragma once
#include <immintrin.h>
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx512.h>

#define _mm256_dpbusd_avx_epi32(sums, unsigned_bytes, signed_bytes) simde_mm256_dpbusd_epi32(sums, unsigned_bytes, signed_bytes)

static inline simde__m512 emulated_cvtepi32_ps(simde__m512i integers) {  // which SIMDe 0.7.4 lacks
  const simde__m512i_private from = simde__m512i_to_private(integers);
  simde__m512_private to;
  for (int i = 0; i < 16; ++i) to.f32[i] = static_cast<float>(from.i32[i]);
  return simde__m512_from_private(to);
}
#define _mm512_cvtepi32_ps(integers) emulated_cvtepi32_ps(integers)
