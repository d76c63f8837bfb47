#include "request.h"

#include <google/protobuf/io/coded_stream.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <new>

#include "monotonic.h"

namespace lstm_front {
namespace {

using google::protobuf::io::CodedOutputStream;
using inference::InferParameter;
using inference::ModelInferRequest;

constexpr int64_t kMicrosecondNs = 1000;
constexpr int64_t kLargestTimeoutUs = int64_t{1} << 53;
constexpr int64_t kLowestPriority = 9;
constexpr size_t kLargestMessage = INT32_MAX - 16;  // of protobuf, with room for what a stream puts around it
constexpr char kRawContentsTag = (6 << 3) | 2;
constexpr char kParametersTag = (4 << 3) | 2;
constexpr char kInferResponseTag = (2 << 3) | 2;

using Parameters = google::protobuf::Map<std::string, InferParameter>;

bool IsSet(const InferParameter& parameter) {
  switch (parameter.parameter_choice_case()) {
    case InferParameter::kBoolParam:
      return parameter.bool_param();
    case InferParameter::kInt64Param:
      return parameter.int64_param() != 0;
    case InferParameter::kUint64Param:
      return parameter.uint64_param() != 0;
    case InferParameter::kDoubleParam:
      return parameter.double_param() != 0;
    case InferParameter::kStringParam:
      return !parameter.string_param().empty();
    case InferParameter::PARAMETER_CHOICE_NOT_SET:
      return false;
  }
  return true;
}

bool AsksForState(const Parameters& parameters) {
  for (const char* name : {"sequence_id", "sequence_start", "sequence_end"}) {
    const auto found = parameters.find(name);
    if (found != parameters.end() && IsSet(found->second)) return true;
  }
  return false;
}

// Reads a whole number, which may be missing (0); false if it is none, or too large.
bool WholeNumber(const Parameters& parameters, const char* name, int64_t largest, int64_t& value) {
  const auto found = parameters.find(name);
  if (found == parameters.end()) return true;
  const InferParameter& parameter = found->second;
  if (parameter.parameter_choice_case() == InferParameter::kInt64Param) {
    value = parameter.int64_param();
  } else if (parameter.parameter_choice_case() == InferParameter::kUint64Param) {
    if (parameter.uint64_param() > static_cast<uint64_t>(largest)) return false;
    value = static_cast<int64_t>(parameter.uint64_param());
  } else {
    return false;
  }
  return value >= 0 && value <= largest;
}

bool ChangesMeaning(const Parameters& parameters) {
  return !parameters.empty() && (parameters.count("shared_memory_region") || parameters.count("classification"));
}

bool AllKnown(const google::protobuf::Message& message) {
  return message.GetReflection()->GetUnknownFields(message).empty();
}

template <class Described>
bool AllKnownIn(const Described& described) {
  const Parameters& parameters = described.parameters();
  return AllKnown(described) && std::all_of(parameters.begin(), parameters.end(),
                                            [](const auto& parameter) { return AllKnown(parameter.second); });
}

// Implementations of protobuf differ in what they make of damaged fields, most of which are unknown ones to this one.
bool HasUnknownFields(const ModelInferRequest& message) {
  const auto known = [](const auto& tensor) { return AllKnownIn(tensor); };
  const auto& inputs = message.inputs();
  return !AllKnownIn(message) || !std::all_of(message.outputs().begin(), message.outputs().end(), known) ||
         !std::all_of(inputs.begin(), inputs.end(), [](const auto& input) {
           return AllKnownIn(input) && (!input.has_contents() || AllKnown(input.contents()));
         });
}

template <class Value>
Value At(const char* data, size_t index) {
  Value value;
  std::memcpy(&value, data + index * sizeof(Value), sizeof(Value));
  return value;
}

bool Finite(const char* data, size_t count) {
  uint32_t all_ones = 0;  // the exponents that are: NaN and infinity have no other
  for (size_t i = 0; i < count; ++i) {
    const uint32_t exponent = At<uint32_t>(data, i) & 0x7f800000u;
    all_ones |= static_cast<uint32_t>(exponent == 0x7f800000u);
  }
  return all_ones == 0;
}

void Range(const char* data, size_t count, float& low, float& high) {
  float least = low, most = high;
  for (size_t i = 0; i < count; ++i) {
    const float value = At<float>(data, i);
    least = value < least ? value : least;
    most = value > most ? value : most;
  }
  low = least;
  high = most;
}

void Clip(char* data, size_t count, float low, float high) {
  for (size_t i = 0; i < count; ++i) {
    float value = At<float>(data, i);
    value = value < low ? low : value > high ? high : value;
    std::memcpy(data + i * sizeof(float), &value, sizeof(float));
  }
}

template <class Index>
bool Within(const char* data, size_t count, int64_t vocabulary) {
  bool all = true;
  for (size_t i = 0; i < count; ++i) {
    const int64_t index = At<Index>(data, i);
    all &= index >= 0 && index < vocabulary;
  }
  return all;
}

}  // namespace

std::optional<size_t> BytesOf(const std::vector<int64_t>& shape, size_t item_bytes) {
  size_t bytes = item_bytes;
  for (const int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) return std::nullopt;
  }
  return bytes;
}

std::unique_ptr<Request> Request::Decode(std::shared_ptr<const Signature> signature,
                                         std::unique_ptr<ModelInferRequest> message, int64_t deadline_ns,
                                         int64_t now_ns) {
  std::unique_ptr<Request> request(new Request);
  request->signature_ = std::move(signature);
  request->message_ = std::move(message);
  request->began_ns_ = now_ns;
  if (HasUnknownFields(*request->message_)) return nullptr;
  if (request->Read() && request->ReadWanted() && request->ReadParameters(deadline_ns, now_ns)) return request;
  return nullptr;
}

bool Request::ReadParameters(int64_t call_deadline_ns, int64_t now_ns) {
  deadline_ns_ = call_deadline_ns;
  int64_t timeout_us = 0;
  const Parameters& parameters = message_->parameters();
  if (!parameters.empty()) {
    if (AsksForState(parameters)) return false;
    if (!WholeNumber(parameters, "timeout", kLargestTimeoutUs, timeout_us)) return false;
    if (!WholeNumber(parameters, "priority", kLowestPriority, priority_)) return false;
  }
  int64_t timeout_ns;
  if (timeout_us != 0) {
    timeout_ns = timeout_us > kNeverNs / kMicrosecondNs ? kNeverNs : timeout_us * kMicrosecondNs;
  } else if (call_deadline_ns == kNeverNs && signature_->default_timeout_ns) {
    timeout_ns = *signature_->default_timeout_ns;
  } else {
    return true;
  }
  deadline_ns_ = std::min(deadline_ns_, timeout_ns > kNeverNs - now_ns ? kNeverNs : now_ns + timeout_ns);
  return true;
}

bool Request::ReadWanted() {
  const Signature& signature = *signature_;
  for (const auto& output : message_->outputs()) {
    const int position = signature.OutputPosition(output.name());
    if (position < 0 || ChangesMeaning(output.parameters())) return false;
    wanted_.push_back(position);
  }
  if (wanted_.empty()) {
    for (size_t position = 0; position < signature.outputs.size(); ++position) {
      wanted_.push_back(static_cast<int>(position));
    }
  }
  return std::none_of(wanted_.begin(), wanted_.end(), [&](int position) {
    return signature.outputs[static_cast<size_t>(position)].kind == Version::Output::TEXT;
  });
}

bool Request::Read() {
  const Signature& signature = *signature_;
  const ModelInferRequest& message = *message_;
  const int count = static_cast<int>(signature.inputs.size());
  const int lengths_position = count, state_position = count + 1;
  if (message.raw_input_contents_size() != 0 && message.raw_input_contents_size() != message.inputs_size()) {
    return false;
  }
  inputs_.resize(signature.inputs.size());
  View lengths;
  int state_index = -1, found = 0;
  int64_t rows = -1;
  std::vector<int64_t> shape;
  Field lengths_field;
  lengths_field.datatype = "INT64";
  lengths_field.type = Type::kInt64;
  for (int index = 0; index < message.inputs_size(); ++index) {
    const int position = signature.Position(message.inputs(index).name());
    if (position < 0) return false;
    if (position == state_position) {
      if (state_index >= 0) return false;
      state_index = index;
      continue;
    }
    const Field& field = position == lengths_position
                             ? lengths_field
                             : static_cast<const Field&>(signature.inputs[static_cast<size_t>(position)]);
    View& view = position == lengths_position ? lengths : inputs_[static_cast<size_t>(position)];
    if (view.data != nullptr || !ViewTensor(index, field, view, shape)) return false;
    if (rows >= 0 && shape[0] != rows) return false;
    rows = shape[0];
    if (field.follows_time) {
      if (time_ != 0 && shape[1] != time_) return false;
      time_ = shape[1];
    }
    found += position < count;
  }
  if (found != count || rows < 1 || time_ < 1 || rows > signature.max_rows || time_ > signature.max_steps) return false;
  if (lengths.data != nullptr) {
    if (!ReadLengths(lengths)) return false;
  } else {
    lengths_.assign(static_cast<size_t>(rows), time_);
  }
  for (size_t index = 0; index < inputs_.size(); ++index) {
    if (!CheckValues(index)) return false;
  }
  if (signature.state) {
    states_.assign(static_cast<size_t>(rows) * signature.state->floats, 0.0f);
    if (state_index >= 0 && !ReadState(state_index)) return false;
  }
  return true;
}

bool Request::ViewTensor(int index, const Field& field, View& view, std::vector<int64_t>& shape) const {
  const ModelInferRequest& message = *message_;
  const auto& sent = message.inputs(index);
  if (ChangesMeaning(sent.parameters()) || sent.datatype() != field.datatype) return false;
  const size_t before = field.follows_time ? 2 : 1;
  if (static_cast<size_t>(sent.shape_size()) != before + field.tail.size()) return false;
  shape.assign(sent.shape().begin(), sent.shape().end());
  for (size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] < 1 || (axis >= before && shape[axis] != field.tail[axis - before])) return false;
  }
  if (message.raw_input_contents_size() != 0) {
    if (sent.has_contents()) return false;
    const std::string& raw = message.raw_input_contents(index);
    view = {raw.data(), raw.size()};
  } else {
    const auto& contents = sent.contents();
    const auto typed = [](const auto& values) {
      return View{reinterpret_cast<const char*>(values.data()), static_cast<size_t>(values.size()) * sizeof(values[0])};
    };
    switch (field.type) {
      case Type::kFloat:
        view = typed(contents.fp32_contents());
        break;
      case Type::kInt32:
        view = typed(contents.int_contents());
        break;
      case Type::kInt64:
        view = typed(contents.int64_contents());
        break;
    }
  }
  const size_t item = field.type == Type::kInt64 ? 8 : 4;
  const std::optional<size_t> needed = BytesOf(shape, item);
  return needed && view.bytes == *needed;
}

bool Request::ReadLengths(const View& view) {
  lengths_.resize(view.bytes / sizeof(int64_t));
  std::memcpy(lengths_.data(), view.data, view.bytes);
  for (const int64_t length : lengths_) {
    if (length < 1 || length > time_ || (signature_->equal_lengths && length != lengths_[0])) return false;
  }
  return true;
}

bool Request::ReadState(int index) {
  const StateField& state = *signature_->state;
  const auto& sent = message_->inputs(index);
  if (ChangesMeaning(sent.parameters()) || sent.datatype() != "UINT8" || sent.shape_size() != 2) return false;
  if (message_->raw_input_contents_size() == 0 || sent.has_contents()) return false;
  const std::string& content = message_->raw_input_contents(index);
  const size_t width = state.token_bytes();
  if (sent.shape(0) != rows() || sent.shape(1) != static_cast<int64_t>(width)) return false;
  if (content.size() != static_cast<size_t>(rows()) * width) return false;
  for (size_t row = 0; row < static_cast<size_t>(rows()); ++row) {
    const char* token = content.data() + row * width;
    if (std::memcmp(token, state.identity.data(), state.identity.size()) != 0) return false;
    std::memcpy(states_.data() + row * state.floats, token + state.identity.size(), state.bytes());
  }
  return Finite(reinterpret_cast<const char*>(states_.data()), states_.size());
}

// Looks at the values of every row up to its length: what lies beyond is never read.
bool Request::CheckValues(size_t index) {
  const InputField& field = signature_->inputs[index];
  if (field.type != Type::kFloat && !field.vocabulary) return true;
  const View& view = inputs_[index];
  const size_t item = field.type == Type::kInt64 ? 8 : 4;
  const bool whole = !field.follows_time ||
                     std::all_of(lengths_.begin(), lengths_.end(), [&](int64_t length) { return length == time_; });
  const auto each = [&](auto&& check) {
    if (whole) return check(view.data, view.bytes / item);
    const size_t stride = static_cast<size_t>(time_) * field.row_bytes;
    for (size_t row = 0; row < lengths_.size(); ++row) {
      const size_t bytes = static_cast<size_t>(lengths_[row]) * field.row_bytes;
      if (!check(view.data + row * stride, bytes / item)) return false;
    }
    return true;
  };
  if (field.type == Type::kInt32) {
    return each([&](const char* data, size_t count) { return Within<int32_t>(data, count, *field.vocabulary); });
  }
  if (field.type == Type::kInt64) {
    return each([&](const char* data, size_t count) { return Within<int64_t>(data, count, *field.vocabulary); });
  }
  if (!each(Finite)) return false;
  if (!field.ranged) return true;
  float low = 0, high = 0;  // zero is always within: padding is
  each([&](const char* data, size_t count) {
    Range(data, count, low, high);
    return true;
  });
  if (field.low <= low && high <= field.high) return true;
  if (!signature_->clips) return false;
  each([&](const char* data, size_t count) {
    // The message is this request's own.
    Clip(const_cast<char*>(data), count, static_cast<float>(field.low), static_cast<float>(field.high));
    return true;
  });
  return true;
}

bool Request::Gather(const Span& span, const Batch& batch) const {
  if (span.row < 0 || span.row >= rows() || span.start < 0 || span.start >= span.stop ||
      span.stop > lengths_[static_cast<size_t>(span.row)] || span.stop - span.start > batch.steps) {
    return false;
  }
  const auto row = static_cast<size_t>(span.row), position = static_cast<size_t>(span.position);
  const auto steps = static_cast<size_t>(span.stop - span.start);
  for (size_t index = 0; index < inputs_.size(); ++index) {
    const InputField& field = signature_->inputs[index];
    if (!field.follows_time) {
      std::memcpy(batch.inputs[index] + position * field.row_bytes, inputs_[index].data + row * field.row_bytes,
                  field.row_bytes);
      continue;
    }
    const size_t first = row * static_cast<size_t>(time_) + static_cast<size_t>(span.start);
    const size_t padded = static_cast<size_t>(batch.steps) * field.row_bytes, real = steps * field.row_bytes;
    char* const place = batch.inputs[index] + position * padded;
    std::memcpy(place, inputs_[index].data + first * field.row_bytes, real);
    std::memset(place + real, 0, padded - real);
  }
  if (signature_->state) {
    const size_t floats = signature_->state->floats;
    std::memcpy(batch.states + position * floats, states_.data() + row * floats, floats * sizeof(float));
  }
  return true;
}

bool Request::Scatter(const Span& span, const Computed& computed) {
  if (span.row < 0 || span.row >= rows() || span.start < 0 || span.start >= span.stop ||
      span.stop > lengths_[static_cast<size_t>(span.row)] || span.stop - span.start > computed.steps) {
    return false;
  }
  const auto row = static_cast<size_t>(span.row), position = static_cast<size_t>(span.position);
  const bool last = span.stop == lengths_[row];
  if (signature_->state) {
    const size_t floats = signature_->state->floats;
    std::memcpy(states_.data() + row * floats, computed.states + position * floats, floats * sizeof(float));
  }
  for (const Place& place : places_) {
    const OutputField& field = signature_->outputs[static_cast<size_t>(place.output)];
    if (field.kind == Version::Output::STATE) {
      if (!last) continue;
      const StateField& state = *signature_->state;
      char* const token = place.content + row * state.token_bytes();
      std::memcpy(token, state.identity.data(), state.identity.size());
      std::memcpy(token + state.identity.size(), states_.data() + row * state.floats, state.bytes());
      continue;
    }
    const char* const source = computed.outputs[field.source];
    if (!field.follows_time) {
      if (last) {
        std::memcpy(place.content + row * field.row_bytes, source + position * field.row_bytes, field.row_bytes);
      }
      continue;
    }
    const size_t to = row * static_cast<size_t>(time_) + static_cast<size_t>(span.start);
    const size_t from = position * static_cast<size_t>(computed.steps);
    std::memcpy(place.content + to * field.row_bytes, source + from * field.row_bytes,
                static_cast<size_t>(span.stop - span.start) * field.row_bytes);
  }
  return true;
}

const std::string& FinalParameter() {
  static const std::string written = [] {
    inference::ModelInferResponse response;
    (*response.mutable_parameters())["triton_final_response"].set_bool_param(true);
    return response.SerializeAsString();
  }();
  return written;
}

std::string StreamPrefix(size_t size) {
  std::array<uint8_t, 16> varint;
  const uint8_t* const end = CodedOutputStream::WriteVarint64ToArray(size, varint.data());
  std::string prefix(1, kInferResponseTag);
  prefix.append(reinterpret_cast<const char*>(varint.data()), static_cast<size_t>(end - varint.data()));
  return prefix;
}

void Request::BeginAnswer(bool of_stream) {
  inference::ModelInferResponse head;
  head.set_model_name(signature_->model);
  head.set_model_version(signature_->version);
  head.set_id(message_->id());
  std::vector<size_t> sizes;
  for (const int position : wanted_) {
    const OutputField& field = signature_->outputs[static_cast<size_t>(position)];
    auto& output = *head.add_outputs();
    output.set_name(field.name);
    output.set_datatype(field.datatype);
    output.add_shape(rows());
    size_t bytes = static_cast<size_t>(rows());
    if (field.kind == Version::Output::STATE) {
      output.add_shape(static_cast<int64_t>(signature_->state->token_bytes()));
      bytes *= signature_->state->token_bytes();
    } else {
      if (field.follows_time) {
        output.add_shape(time_);
        bytes *= static_cast<size_t>(time_);
      }
      for (const int64_t size : field.tail) output.add_shape(size);
      bytes *= field.row_bytes;
    }
    sizes.push_back(bytes);
  }
  const std::string written = head.SerializeAsString();
  const std::string& end = of_stream ? FinalParameter() : std::string();
  size_t size = written.size() + end.size();
  for (const size_t bytes : sizes) {
    size += 1 + CodedOutputStream::VarintSize64(bytes) + bytes;
    if (bytes > kLargestMessage || size > kLargestMessage) throw std::bad_alloc();
  }
  const std::string prefix = of_stream ? StreamPrefix(size) : std::string();
  answer_size_ = prefix.size() + size;
  places_.reserve(wanted_.size());
  answer_.reset(new char[answer_size_]());  // zeros: what follows time has them beyond a row's length
  char* next = answer_.get();
  const auto append = [&](const std::string& part) {
    std::memcpy(next, part.data(), part.size());
    next += part.size();
  };
  append(prefix);
  append(written);
  append(end);
  for (size_t index = 0; index < wanted_.size(); ++index) {
    *next++ = kRawContentsTag;
    next = reinterpret_cast<char*>(
        CodedOutputStream::WriteVarint64ToArray(sizes[index], reinterpret_cast<uint8_t*>(next)));
    places_.push_back({wanted_[index], next});
    next += sizes[index];
  }
}

Request::Answer Request::TakeAnswer() {
  places_.clear();
  return {std::move(answer_), answer_size_};
}

}  // namespace lstm_front
