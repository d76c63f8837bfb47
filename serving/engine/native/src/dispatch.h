// Which kernels this processor can run, best first.
#pragma once
#include "layer.h"

namespace lstm_native {

constexpr int kMostKernels = 4;

// Fills `found` with kernels that were built and can run here, best first; returns how many.
int available_kernels(const Kernels* found[kMostKernels]);

// The best one, or the one that the environment variable LSTM_NATIVE_ISA names; null if that one cannot run here.
const Kernels* chosen_kernels();

}  // namespace lstm_native
