// Where a lane's buffers lie in its workspace. One place decides, so that the size asked for and the use agree.
#pragma once
#include "layer.h"

// Unnamed: each file has its own, compiled for its own processor.
namespace lstm_native {
namespace {

// Rows and steps whose input product is computed at once: enough rows for a full tile, few enough to stay in the cache.
constexpr int kProductRows = 64;

struct Carver {
  char* next;
  size_t used = 0;

  template <typename T>
  T* take(size_t count) {
    T* place = next == nullptr ? nullptr : reinterpret_cast<T*>(next + used);
    used += (count * sizeof(T) + 63) / 64 * 64;
    return place;
  }
};

// Quantized rows: bytes, and of each row its offset (strip.h), its scale, and its middle, which was taken off before.
struct Activations {
  int8_t* values;
  int32_t* offsets;
  float* scales;
  float* middles;  // null: rows are quantized around zero
  int stride;      // bytes of a row

  Activations(Carver& carver, int columns, int rows, bool centred) : stride(round_up(columns, kActivationPad)) {
    values = carver.take<int8_t>(static_cast<size_t>(stride) * rows);
    offsets = carver.take<int32_t>(rows);
    scales = carver.take<float>(rows);
    middles = centred ? carver.take<float>(rows) : nullptr;
  }
};

struct Buffers {
  int width;         // units, rounded up to blocks
  int product_rows;  // rows and steps of one input product
  Activations x, h;
  float* product;      // float[product_rows, blocks, gates, 16]
  float* gates;        // float[rows, gates, 16]
  float* state_h;      // float[rows, width]
  float* state_c;      // float[rows, width]; of a GRU the reset state
  float* update_gate;  // float[rows, width]

  Buffers(Carver& carver, const Layer& layer, int rows)
      : width(layer.blocks * kUnits),
        product_rows(rows > kProductRows ? rows : kProductRows),
        x(carver, layer.inputs, product_rows, true),
        h(carver, layer.hidden, rows, false) {
    product = carver.take<float>(static_cast<size_t>(product_rows) * width * layer.gates);
    gates = carver.take<float>(static_cast<size_t>(rows) * layer.gates * kUnits);
    state_h = carver.take<float>(static_cast<size_t>(rows) * width);
    state_c = carver.take<float>(static_cast<size_t>(rows) * width);
    update_gate = carver.take<float>(static_cast<size_t>(rows) * width);
  }
};

}  // namespace
}  // namespace lstm_native
