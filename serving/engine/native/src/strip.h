// The arguments of a tile: some rows times 16 channels of some gates.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lstm_native {
namespace {

struct Strip {
  const uint8_t* weights;  // of the first gate: [octets * 2, 16, 4]
  size_t gate_bytes;       // from one gate's weights to the next
  int octets;
  const int8_t* values;  // of the first row
  int stride;
  const int32_t* offsets;   // -kZero times the sum of each row's values: as if weights had no zero added
  const float* row_scales;
  const float* middles;     // what was taken off each row before it was quantized; null for nothing
  const float* column_sums; // [gates, 16], if there are middles
  const float* channel_scales;  // [gates, 16]
  const float* addend;          // [rows, gates, 16]
  ptrdiff_t addend_row;         // floats from one row to the next; 0 for the same to all
  float* out;                   // [rows, gates, 16]: addend + sum * row scale * channel scale + middle * column sum
  ptrdiff_t out_row;
};

}  // namespace
}  // namespace lstm_native
