#include "api.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "dispatch.h"
#include "layer.h"
#include "pool.h"
#include "weights_file.h"

namespace lstm_native {
namespace {

constexpr size_t kAlignment = 64;
constexpr int kRowsPerThread = 4;  // fewer would leave tiles unfilled and read the weights once more for little

// The arguments of a call, as api.h explains them.
struct Call {
  int32_t threads;
  int64_t time, batch;
  const float* x;
  int64_t x_time, x_batch;
  const int32_t* lengths;
  const float *initial_h, *initial_c;
  float *y, *y_h, *y_c;
};

struct Free {
  void operator()(char* memory) const { std::free(memory); }
};

struct Workspace {
  std::unique_ptr<char, Free> memory;
  size_t bytes = 0;

  void reserve(size_t wanted) {
    if (wanted <= bytes) return;
    memory.reset();
    bytes = 0;
    memory.reset(static_cast<char*>(std::aligned_alloc(kAlignment, (wanted + kAlignment - 1) / kAlignment * kAlignment)));
    if (memory == nullptr) throw std::bad_alloc();
    bytes = wanted;
  }
};

struct Model {
  const Kernels* kernels = nullptr;
  std::vector<Layer> layers;
  Pool pool;
  std::mutex mutex;
  std::vector<Workspace> idle;  // kept between calls, so that their pages are

  Workspace take() {
    std::lock_guard<std::mutex> lock(mutex);
    if (idle.empty()) return {};
    Workspace last = std::move(idle.back());
    idle.pop_back();
    return last;
  }

  void give_back(Workspace workspace) {
    std::lock_guard<std::mutex> lock(mutex);
    idle.push_back(std::move(workspace));
  }
};

// A lane with what it points to.
struct OwnedLane {
  Lane lane{};
  std::vector<int32_t> row, lengths;
  Workspace workspace;
};

int groups_of(const Layer& layer, const Call& call) {
  const int by_threads = std::max(1, call.threads / layer.directions);
  const int by_rows = std::max<int>(1, static_cast<int>(call.batch) / kRowsPerThread);
  return std::min(by_threads, by_rows);
}

OwnedLane make_lane(const Layer& layer, const Call& call, int direction, const std::vector<int32_t>& order,
                    int group, int groups) {
  OwnedLane owned;
  for (size_t i = group; i < order.size(); i += groups) {  // every one gets long and short rows
    owned.row.push_back(order[i]);
    owned.lengths.push_back(call.lengths == nullptr ? static_cast<int32_t>(call.time) : call.lengths[order[i]]);
  }
  const ptrdiff_t states = static_cast<ptrdiff_t>(direction) * call.batch * layer.hidden;
  const ptrdiff_t step = static_cast<ptrdiff_t>(layer.directions) * layer.hidden;
  Lane& lane = owned.lane;
  lane.layer = &layer;
  lane.direction = direction;
  lane.rows = static_cast<int>(owned.row.size());
  lane.time = static_cast<int>(call.time);
  lane.x = call.x;
  lane.x_time = call.x_time;
  lane.x_row = call.x_batch;
  lane.y = call.y == nullptr ? nullptr : call.y + static_cast<ptrdiff_t>(direction) * layer.hidden;
  lane.y_time = step;
  lane.y_row = step * call.time;
  lane.initial_h = call.initial_h == nullptr ? nullptr : call.initial_h + states;
  lane.initial_c = call.initial_c == nullptr ? nullptr : call.initial_c + states;
  lane.y_h = call.y_h + states;
  lane.y_c = call.y_c == nullptr ? nullptr : call.y_c + states;
  lane.bad_row = -1;
  return owned;
}

std::vector<int32_t> longest_first(const Call& call) {
  std::vector<int32_t> order(static_cast<size_t>(call.batch));
  std::iota(order.begin(), order.end(), 0);
  if (call.lengths != nullptr)
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return call.lengths[a] > call.lengths[b]; });
  return order;
}

bool fits(const Layer& layer, const Call& call) {
  constexpr int64_t kMost = 1 << 30;
  if (call.time < 1 || call.batch < 1 || call.time > kMost || call.batch > kMost || call.threads < 1) return false;
  if (call.x == nullptr || call.y_h == nullptr || (layer.kind == Operator::kLstm && call.y_c == nullptr)) return false;
  for (int64_t i = 0; call.lengths != nullptr && i < call.batch; ++i)
    if (call.lengths[i] < 1 || call.lengths[i] > call.time) return false;
  return true;
}

int32_t run_layer(Model& model, const Layer& layer, const Call& call) {
  const std::vector<int32_t> order = longest_first(call);
  const int groups = groups_of(layer, call);
  std::vector<OwnedLane> lanes;
  for (int direction = 0; direction < layer.directions; ++direction)
    for (int group = 0; group < groups; ++group) lanes.push_back(make_lane(layer, call, direction, order, group, groups));
  for (OwnedLane& owned : lanes) {
    owned.lane.row = owned.row.data();
    owned.lane.lengths = owned.lengths.data();
    owned.workspace = model.take();
    owned.workspace.reserve(workspace_bytes(owned.lane));
    owned.lane.workspace = owned.workspace.memory.get();
  }
  const int helpers = std::min(call.threads, static_cast<int32_t>(lanes.size())) - 1;
  model.pool.run(static_cast<int>(lanes.size()), helpers, [&](int i) { model.kernels->run(lanes[i].lane); });
  int32_t bad_row = -1;
  for (OwnedLane& owned : lanes) {
    bad_row = std::max(bad_row, owned.lane.bad_row);
    model.give_back(std::move(owned.workspace));
  }
  return bad_row + 1;
}

const Layer& layer_of(const void* model, int32_t layer) { return static_cast<const Model*>(model)->layers.at(layer); }

void tell(char* to, size_t size, const std::string& text) { std::snprintf(to, size, "%s", text.c_str()); }

}  // namespace
}  // namespace lstm_native

using namespace lstm_native;

void* lstm_native_open(const void* data, size_t size, char* message, size_t message_size) {
  try {
    auto model = std::make_unique<Model>();
    model->kernels = chosen_kernels();
    if (model->kernels == nullptr) {
      tell(message, message_size, "LSTM_NATIVE_ISA names no instruction set that works here");
      return nullptr;
    }
    const std::string problem = read_layers(static_cast<const unsigned char*>(data), size, &model->layers);
    if (problem.empty()) return model.release();
    tell(message, message_size, problem);
  } catch (const std::bad_alloc&) {
    tell(message, message_size, "out of memory");
  }
  return nullptr;
}

void lstm_native_close(void* model) { delete static_cast<Model*>(model); }

int32_t lstm_native_layers(const void* model) { return static_cast<int32_t>(static_cast<const Model*>(model)->layers.size()); }

void lstm_native_describe(const void* model, int32_t layer, LstmNativeLayer* description) {
  const Layer& l = layer_of(model, layer);
  *description = {static_cast<int32_t>(l.kind), l.gates, l.inputs, l.hidden, l.directions, l.blocks};
}

const char* lstm_native_isa(const void* model) { return static_cast<const Model*>(model)->kernels->name; }

int32_t lstm_native_run(void* model, int32_t layer, int32_t threads, int64_t time, int64_t batch, const float* x,
                        int64_t x_time, int64_t x_batch, const int32_t* lengths, const float* initial_h,
                        const float* initial_c, float* y, float* y_h, float* y_c) {
  const Call call{threads, time, batch, x, x_time, x_batch, lengths, initial_h, initial_c, y, y_h, y_c};
  try {
    const Layer& l = layer_of(model, layer);
    return fits(l, call) ? run_layer(*static_cast<Model*>(model), l, call) : LSTM_NATIVE_BAD_ARGUMENT;
  } catch (const std::bad_alloc&) {
    return LSTM_NATIVE_NO_MEMORY;
  } catch (const std::exception&) {
    return LSTM_NATIVE_BAD_ARGUMENT;
  }
}

void lstm_native_isas(char* names, size_t size) {
  const Kernels* found[kMostKernels];
  const int count = available_kernels(found);
  std::string text;
  for (int i = 0; i < count; ++i) text += (i > 0 ? "," : "") + std::string(found[i]->name);
  tell(names, size, text);
}

int32_t lstm_native_sums(void* model, int32_t layer, int32_t direction, int32_t matrix, const float* x, int32_t rows,
                         float* sums, float* scales) {
  try {
    const Layer& l = layer_of(model, layer);
    if (direction < 0 || direction >= l.directions || rows < 1) return LSTM_NATIVE_BAD_ARGUMENT;
    const Matrix& m = matrix == 0 ? l.direction[direction].input : l.direction[direction].recurrent;
    Workspace workspace;
    workspace.reserve(sums_workspace_bytes(m, rows));
    static_cast<Model*>(model)->kernels->sums(m, l.blocks, l.gates, x, rows, sums, scales, workspace.memory.get());
    return LSTM_NATIVE_OK;
  } catch (const std::bad_alloc&) {
    return LSTM_NATIVE_NO_MEMORY;
  } catch (const std::exception&) {
    return LSTM_NATIVE_BAD_ARGUMENT;
  }
}
