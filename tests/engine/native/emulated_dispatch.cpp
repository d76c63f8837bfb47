// In the place of src/dispatch.cpp: every kernel that was written for this architecture, whatever the processor.
#include <cstdlib>
#include <cstring>

#include "dispatch.h"

namespace lstm_native {

extern const Kernels kPortableKernels, kAvx2Kernels, kAvxVnniKernels, kAvx512VnniKernels;

int available_kernels(const Kernels* found[kMostKernels]) {
  const Kernels* all[kMostKernels] = {&kAvx512VnniKernels, &kAvxVnniKernels, &kAvx2Kernels, &kPortableKernels};
  std::memcpy(found, all, sizeof all);
  return kMostKernels;
}

const Kernels* chosen_kernels() {
  const Kernels* found[kMostKernels];
  available_kernels(found);
  const char* wanted = std::getenv("LSTM_NATIVE_ISA");
  for (const Kernels* kernels : found)
    if (wanted != nullptr && std::strcmp(kernels->name, wanted) == 0) return kernels;
  return nullptr;
}

}  // namespace lstm_native
