// What a kernel needs to know of a layer and of the rows it shall compute. Plain data only: these types cross between
// files that are compiled for different processors.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lstm_native {

constexpr int kUnits = 16;          // units of a block
constexpr int kOctet = 8;           // K is a multiple of it
// Products that are added in 16 bits before they are widened belong to a group: of an octet, columns 0, 1, 4, 5 or 2, 3, 6, 7.
constexpr int kGroup = 4;
constexpr int kActivationPad = 32;  // bytes; rows of quantized activations are filled up to a multiple of it
constexpr int kZero = 64;           // what was added to a weight to make it unsigned

enum class Operator : uint32_t { kLstm = 0, kGru = 1, kRnn = 2 };

static inline int round_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// uint8[blocks, gates, octets * 2, 16, 4] and float[blocks, gates, 16].
struct Matrix {
  const uint8_t* weights;
  const float* scales;
  const float* column_sums;  // float[blocks, gates, 16]: of the weights of a channel; null for the recurrent matrix
  int columns;  // real ones
  int octets;   // of eight columns each
};

struct Direction {
  Matrix input;
  Matrix recurrent;
  const float* biases;     // float[blocks, bias gates, 16]
  const float* peepholes;  // float[blocks, 3, 16] in the order i, o, f; null if none
  bool reverse;
};

struct Layer {
  Operator kind;
  bool linear_before_reset;
  bool relu;
  int gates;
  int bias_gates;
  int inputs;
  int hidden;
  int blocks;
  int directions;
  Direction direction[2];
};

// Some rows of a batch in one direction. Rows are sorted by length, longest first. All strides are in floats.
struct Lane {
  const Layer* layer;
  int direction;
  int rows;
  const int32_t* row;      // [rows]: which row of the batch
  const int32_t* lengths;  // [rows], steps
  int time;                // steps of the batch, padding included
  const float* x;
  ptrdiff_t x_time, x_row;
  float* y;  // null if nobody asks for it
  ptrdiff_t y_time, y_row;
  const float* initial_h;  // float[batch, hidden], null for zeros
  const float* initial_c;
  float* y_h;  // float[batch, hidden]
  float* y_c;
  char* workspace;  // `workspace_bytes` of it, at a multiple of 64
  int32_t bad_row;  // out: the first row that met NaN or infinity, or -1
};

size_t workspace_bytes(const Lane& lane);

struct Kernels {
  const char* name;
  void (*run)(Lane& lane);
  // For tests and measurements: exact sums of `rows` rows float[rows, columns] with a matrix, as float[rows, blocks,
  // gates, 16], and the scale of each row. Runs the very code that `run` uses.
  void (*sums)(const Matrix& matrix, int blocks, int gates, const float* x, int rows, float* sums, float* scales,
               char* workspace);
};

size_t sums_workspace_bytes(const Matrix& matrix, int rows);

}  // namespace lstm_native
