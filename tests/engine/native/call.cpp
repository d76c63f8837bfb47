// One call of the first layer of a weights' file, for counting its instructions. Usage: program WEIGHTS ROWS STEPS
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <vector>

#include "api.h"

int main(int count, char** arguments) {
  if (count != 4) return 2;
  std::ifstream stream(arguments[1], std::ios::binary);
  const std::vector<char> content((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const int64_t rows = std::atoi(arguments[2]), steps = std::atoi(arguments[3]);
  void* bytes = nullptr;
  char message[256] = "out of memory";
  if (posix_memalign(&bytes, 64, content.size()) != 0) return 2;
  std::memcpy(bytes, content.data(), content.size());
  void* model = lstm_native_open(bytes, content.size(), message, sizeof message);
  if (model == nullptr) {
    std::fprintf(stderr, "%s\n", message);
    return 2;
  }
  LstmNativeLayer layer;
  lstm_native_describe(model, 0, &layer);
  std::vector<float> x(static_cast<size_t>(rows * steps * layer.inputs));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 7919 % 1000) / 500.0f - 1.0f;
  const size_t state = static_cast<size_t>(layer.directions * rows * layer.hidden);
  std::vector<float> y(state * steps), y_h(state), y_c(state);
  const int32_t result = lstm_native_run(model, 0, 1, steps, rows, x.data(), rows * layer.inputs, layer.inputs, nullptr,
                                         nullptr, nullptr, y.data(), y_h.data(), y_c.data());
  lstm_native_close(model);
  std::free(bytes);
  return result;
}
