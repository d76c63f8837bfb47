// Reads and checks `weights.bin` (layout: serving/engine/native/weights.py). Nothing is copied: layers point into it.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "layer.h"

namespace lstm_native {

// The layers of a file of `size` bytes at `data`, a multiple of 64. Returns what is wrong with it, or an empty string.
std::string read_layers(const unsigned char* data, size_t size, std::vector<Layer>* layers);

}  // namespace lstm_native
