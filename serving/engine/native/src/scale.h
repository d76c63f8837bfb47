// How a row gets its scale: the same on all processors.
//
// The largest activation becomes 127, unless a group of four (kGroup in layer.h) then has positive values, or negative
// ones, that add up to more than 258: the scale grows until they do not. So the products of a group with unsigned 7-bit
// weights stay within 127 * 258 = 32,766 and can be added in 16 bits. This costs little: the values of a normal
// distribution lose a tenth of their resolution or nothing; where all are as large as the largest, it costs one bit.
#pragma once
#include <cstdint>

namespace lstm_native {
namespace {

constexpr float kLargestActivation = 127.0f;
constexpr int kLargestGroup = 258;
constexpr float kSmallestRow = 1e-30f;  // rows below it count as zero, because their inverse would overflow
constexpr float kLargestRow = 1e37f;    // and beyond it as infinite

struct Scale {
  float scale, inverse;
};

inline Scale first_scale(float largest) {
  if (largest < kSmallestRow) return {0.0f, 0.0f};
  return {largest / kLargestActivation, kLargestActivation / largest};
}

// After a first rounding gave a group of `group`: rounding again adds at most half of one to each of the four.
inline Scale wider_scale(Scale first, int group) {
  const float factor = static_cast<float>(group + 2) / static_cast<float>(kLargestGroup - 2);
  const float scale = first.scale * factor;
  return {scale, 1.0f / scale};
}

}  // namespace
}  // namespace lstm_native
