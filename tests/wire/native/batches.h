// Batches of requests' rows for programs that have no engine: every tensor is a piece of the heap of exactly its size.
#pragma once

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "request.h"

namespace lstm_front {

class Tensors {
 public:
  void Add(size_t bytes) {
    content_.emplace_back(new char[bytes]);
    places_.push_back(content_.back().get());
    sizes_.push_back(bytes);
  }
  char* const* data() const { return places_.data(); }
  char* at(size_t index) const { return places_[index]; }
  size_t size(size_t index) const { return sizes_[index]; }
  size_t count() const { return sizes_.size(); }

 private:
  std::vector<std::unique_ptr<char[]>> content_;
  std::vector<char*> places_;
  std::vector<size_t> sizes_;
};

inline size_t BytesOf(const Field& field, size_t rows, int64_t steps) {
  return rows * field.row_bytes * (field.follows_time ? static_cast<size_t>(steps) : 1);
}

// What goes into the engine, and what comes out of it, for so many rows of so many steps.
struct Run {
  Run(const Signature& signature, size_t rows, int64_t steps) : rows(rows), steps(steps) {
    for (const InputField& field : signature.inputs) inputs.Add(BytesOf(field, rows, steps));
    for (const OutputField& field : signature.outputs) {
      if (field.kind == Version::Output::TENSOR) outputs.Add(BytesOf(field, rows, steps));
    }
    if (signature.state) states.resize(rows * signature.state->floats);
    states.shrink_to_fit();
  }
  Batch batch() { return {steps, inputs.data(), states.data()}; }
  Computed computed() const { return {steps, outputs.data(), states.data()}; }

  const size_t rows;
  const int64_t steps;
  Tensors inputs, outputs;  // the graph's outputs come first in a signature, in their order
  std::vector<float> states;
};

}  // namespace lstm_front
