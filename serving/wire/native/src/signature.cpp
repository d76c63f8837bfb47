#include "signature.h"

#include <stdexcept>

namespace lstm_front {
namespace {

struct Known {
  Type type;
  size_t bytes;
};

Known TypeOf(const std::string& datatype) {
  if (datatype == "FP32") return {Type::kFloat, 4};
  if (datatype == "INT32") return {Type::kInt32, 4};
  if (datatype == "INT64") return {Type::kInt64, 8};
  throw std::invalid_argument("the native front knows no datatype " + datatype);
}

template <class Described>
void Fill(Field& field, const Described& described) {
  const Known known = TypeOf(described.datatype());
  field.name = described.name();
  field.datatype = described.datatype();
  field.type = known.type;
  field.follows_time = described.follows_time();
  field.tail.assign(described.tail().begin(), described.tail().end());
  field.row_bytes = known.bytes;
  for (const int64_t size : field.tail) field.row_bytes *= static_cast<size_t>(size);
}

}  // namespace

Signature::Signature(const Version& described)
    : model(described.model()),
      version(described.version()),
      has_lengths(!described.lengths_input().empty()),
      max_rows(described.max_rows()),
      max_steps(described.max_steps()),
      equal_lengths(described.equal_lengths()),
      clips(described.clips()) {
  for (const auto& input : described.inputs()) {
    InputField field;
    Fill(field, input);
    if (input.has_vocabulary()) field.vocabulary = input.vocabulary();
    field.ranged = input.has_low() && input.has_high();
    field.low = input.low();
    field.high = input.high();
    positions_[field.name] = static_cast<int>(inputs.size());
    inputs.push_back(std::move(field));
  }
  const int count = static_cast<int>(inputs.size());
  if (has_lengths) positions_[described.lengths_input()] = count;
  if (described.has_state()) {
    state = StateField{described.state().name(), static_cast<size_t>(described.state().floats()),
                       described.state().identity()};
    positions_[state->name] = count + 1;
  }
  for (const auto& output : described.outputs()) {
    OutputField field;
    if (output.kind() == Version::Output::TENSOR) {
      Fill(field, output);
    } else {
      field.name = output.name();
      field.datatype = output.datatype();
    }
    field.kind = output.kind();
    field.source = output.source();
    output_positions_[field.name] = static_cast<int>(outputs.size());
    outputs.push_back(std::move(field));
  }
  if (described.has_default_timeout_ns()) default_timeout_ns = described.default_timeout_ns();
}

int Signature::Position(const std::string& input) const {
  const auto found = positions_.find(input);
  return found == positions_.end() ? -1 : found->second;
}

int Signature::OutputPosition(const std::string& output) const {
  const auto found = output_positions_.find(output);
  return found == output_positions_.end() ? -1 : found->second;
}

}  // namespace lstm_front
