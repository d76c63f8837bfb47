// What requests of one model version are compared with, looked up once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "seam.pb.h"

namespace lstm_front {

enum class Type { kFloat, kInt32, kInt64 };

struct Field {
  std::string name, datatype;
  Type type = Type::kFloat;
  bool follows_time = false;
  std::vector<int64_t> tail;
  size_t row_bytes = 0;  // of a row that does not follow time, or of one step of a row that does
};

struct InputField : Field {
  std::optional<int64_t> vocabulary;
  bool ranged = false;
  double low = 0, high = 0;
};

struct OutputField : Field {
  Version::Output::Kind kind = Version::Output::TENSOR;
  int source = 0;
};

struct StateField {
  std::string name;
  size_t floats = 0;
  std::string identity;

  size_t bytes() const { return floats * sizeof(float); }
  size_t token_bytes() const { return identity.size() + bytes(); }
};

class Signature {
 public:
  // Throws std::invalid_argument for a datatype that no model has.
  explicit Signature(const Version& version);

  // Position of an input in `inputs`; `inputs.size()` is that of the lengths, one more that of the state, -1 of none.
  int Position(const std::string& input) const;
  int OutputPosition(const std::string& output) const;

  std::string model, version;
  std::vector<InputField> inputs;
  std::vector<OutputField> outputs;
  std::optional<StateField> state;
  bool has_lengths = false;
  int64_t max_rows = 0, max_steps = 0;
  bool equal_lengths = false, clips = false;
  std::optional<int64_t> default_timeout_ns;

 private:
  std::unordered_map<std::string, int> positions_, output_positions_;
};

}  // namespace lstm_front
