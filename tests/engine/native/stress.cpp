// Runs the engine where a sanitizer can watch: random calls from several threads, and files with random bytes changed.
// Usage: program WEIGHTS ROUNDS    (exit code 1 and a message if an answer is wrong)
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "api.h"

namespace {

// Exactly as long as the file and at a multiple of 64, so that a byte beyond it is seen.
struct File {
  size_t size;
  std::unique_ptr<unsigned char, void (*)(void*)> bytes;

  explicit File(const std::vector<char>& content)
      : size(content.size()), bytes(static_cast<unsigned char*>(allocate(content.size())), std::free) {
    std::memcpy(bytes.get(), content.data(), size);
  }

  static void* allocate(size_t size) {
    void* memory = nullptr;
    return posix_memalign(&memory, 64, size) == 0 ? memory : nullptr;
  }
};

struct Answer {
  std::vector<float> y, y_h, y_c;
  int32_t result;
};

Answer run(void* model, int32_t index, int32_t threads, int64_t time, const std::vector<int32_t>& lengths,
           const std::vector<float>& x) {
  LstmNativeLayer layer;
  lstm_native_describe(model, index, &layer);
  const int64_t batch = static_cast<int64_t>(lengths.size());
  const size_t state = static_cast<size_t>(layer.directions * batch * layer.hidden);
  Answer answer{std::vector<float>(state * time), std::vector<float>(state), std::vector<float>(state), 0};
  answer.result = lstm_native_run(model, index, threads, time, batch, x.data(), batch * layer.inputs, layer.inputs,
                                  lengths.data(), nullptr, nullptr, answer.y.data(), answer.y_h.data(), answer.y_c.data());
  return answer;
}

bool same(const Answer& a, const Answer& b) {
  return a.result == b.result && (a.result != 0 || (a.y == b.y && a.y_h == b.y_h && a.y_c == b.y_c));
}

// Random calls; each must give the same with one thread and with several.
int calls(void* model, unsigned seed, int rounds) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (int round = 0; round < rounds; ++round) {
    const int32_t index = static_cast<int32_t>(random() % lstm_native_layers(model));
    LstmNativeLayer layer;
    lstm_native_describe(model, index, &layer);
    const int64_t time = 1 + random() % 20;
    std::vector<int32_t> lengths(1 + random() % 13);
    for (int32_t& length : lengths) length = static_cast<int32_t>(1 + random() % time);
    std::vector<float> x(static_cast<size_t>(time) * lengths.size() * layer.inputs);
    for (float& value : x) value = normal(random);
    if (!same(run(model, index, 1, time, lengths, x), run(model, index, 4, time, lengths, x))) {
      std::fprintf(stderr, "seed %u, round %d: threads changed an answer\n", seed, round);
      return 1;
    }
  }
  return 0;
}

int damaged(const std::vector<char>& content, int rounds) {
  std::mt19937 random(1);
  int accepted = 0;
  for (int round = 0; round < rounds; ++round) {
    std::vector<char> changed = content;
    const size_t table = 64 + 128 * 4;
    for (unsigned edits = 1 + random() % 4; edits > 0; --edits)
      changed[random() % (random() % 4 == 0 ? changed.size() : std::min(table, changed.size()))] = static_cast<char>(random());
    if (random() % 4 == 0) changed.resize(1 + random() % changed.size());
    const File file(changed);
    char message[256];
    void* model = lstm_native_open(file.bytes.get(), file.size, message, sizeof message);
    if (model == nullptr) continue;
    ++accepted;
    calls(model, static_cast<unsigned>(round), 2);
    lstm_native_close(model);
  }
  return accepted;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  std::ifstream stream(arguments[1], std::ios::binary);
  const std::vector<char> content((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
  const int rounds = std::atoi(arguments[2]);
  const File file(content);
  char message[256];
  void* model = lstm_native_open(file.bytes.get(), file.size, message, sizeof message);
  if (model == nullptr) {
    std::fprintf(stderr, "%s\n", message);
    return 2;
  }
  int wrong[4] = {};
  std::vector<std::thread> callers;
  for (unsigned caller = 0; caller < 4; ++caller)
    callers.emplace_back([&, caller] { wrong[caller] = calls(model, caller, rounds); });
  for (std::thread& caller : callers) caller.join();
  lstm_native_close(model);
  std::printf("%d damaged files were accepted and ran\n", damaged(content, rounds * 10));
  return wrong[0] | wrong[1] | wrong[2] | wrong[3];
}
