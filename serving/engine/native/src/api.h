// The C interface, as serving/engine/native/library.py declares it. All functions may be called from any thread.
#pragma once
#include <cstddef>
#include <cstdint>

#define LSTM_NATIVE_API extern "C" __attribute__((visibility("default")))

// Results: 0 is success; above it is one more than the number of a row that met NaN or infinity (outputs are undefined).
enum LstmNativeResult : int32_t { LSTM_NATIVE_OK = 0, LSTM_NATIVE_NO_MEMORY = -1, LSTM_NATIVE_BAD_ARGUMENT = -2 };

struct LstmNativeLayer {
  int32_t kind, gates, inputs, hidden, directions, blocks;
};

// Use weights of `size` bytes at `data` (a multiple of 64), which must outlive the result; null and a message if they are damaged.
LSTM_NATIVE_API void* lstm_native_open(const void* data, size_t size, char* message, size_t message_size);
LSTM_NATIVE_API void lstm_native_close(void* model);
LSTM_NATIVE_API int32_t lstm_native_layers(const void* model);
LSTM_NATIVE_API void lstm_native_describe(const void* model, int32_t layer, LstmNativeLayer* description);
LSTM_NATIVE_API const char* lstm_native_isa(const void* model);

// One call of a layer. Strides are in floats.
//   x                     [time, batch, inputs] with the strides given; the last axis is contiguous
//   lengths               [batch], 1 to time; null if all rows have `time` steps
//   initial_h, initial_c  [directions, batch, hidden]; null for zeros
//   y                     [batch, time, directions, hidden]
//   y_h, y_c              [directions, batch, hidden]; y_c of an LSTM only
LSTM_NATIVE_API int32_t lstm_native_run(void* model, int32_t layer, int32_t threads, int64_t time, int64_t batch,
                                        const float* x, int64_t x_time, int64_t x_batch, const int32_t* lengths,
                                        const float* initial_h, const float* initial_c, float* y, float* y_h, float* y_c);

// Names of the instruction sets that work here, best first, with commas between.
LSTM_NATIVE_API void lstm_native_isas(char* names, size_t size);

// Exact sums for tests: float[rows, blocks, gates, 16] and float[rows] of float[rows, columns]; matrix 0 is the input's, 1 the state's.
LSTM_NATIVE_API int32_t lstm_native_sums(void* model, int32_t layer, int32_t direction, int32_t matrix, const float* x,
                                         int32_t rows, float* sums, float* scales);
