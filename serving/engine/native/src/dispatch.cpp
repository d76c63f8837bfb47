#include "dispatch.h"

#include <cstdlib>
#include <cstring>

namespace lstm_native {

extern const Kernels kPortableKernels, kAvx2Kernels, kAvxVnniKernels, kAvx512VnniKernels;

#ifdef HAVE_AVXVNNI
// GCC 12 and older have no name for it in __builtin_cpu_supports.
static bool has_avx_vnni() {
  unsigned eax = 7, ebx, ecx = 1, edx;
  __asm__ volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  return __builtin_cpu_supports("avx2") && (eax >> 4 & 1u);
}
#endif

int available_kernels(const Kernels* found[kMostKernels]) {
  int count = 0;
#ifdef HAVE_AVX512VNNI
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma"))
    found[count++] = &kAvx512VnniKernels;
#endif
#ifdef HAVE_AVXVNNI
  if (has_avx_vnni() && __builtin_cpu_supports("fma")) found[count++] = &kAvxVnniKernels;
#endif
#ifdef HAVE_AVX2
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found[count++] = &kAvx2Kernels;
#endif
  found[count++] = &kPortableKernels;
  return count;
}

const Kernels* chosen_kernels() {
  const Kernels* found[kMostKernels];
  const int count = available_kernels(found);
  const char* wanted = std::getenv("LSTM_NATIVE_ISA");
  if (wanted == nullptr || *wanted == '\0') return found[0];
  for (int i = 0; i < count; ++i)
    if (std::strcmp(found[i]->name, wanted) == 0) return found[i];
  return nullptr;
}

}  // namespace lstm_native
