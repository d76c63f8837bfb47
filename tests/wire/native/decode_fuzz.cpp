// A target of libFuzzer: any bytes are decoded; a request that is taken is gathered, scattered and answered.
// FRONT_VERSIONS names files of serialized `Version`s, with colons between them.
//
// The last bytes of an input choose the version and the spans, so that a seed is a request with anything behind it.
#include <google/protobuf/stubs/logging.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "batches.h"
#include "check.h"
#include "monotonic.h"

namespace {

using namespace lstm_front;
using Random = std::minstd_rand;

constexpr size_t kChoosingBytes = 5;
constexpr int64_t kNowNs = 1'000'000'000'000;

std::vector<std::shared_ptr<const Signature>> ReadVersions() {
  static const google::protobuf::LogSilencer silencer;
  std::vector<std::shared_ptr<const Signature>> signatures;
  const char* const named = std::getenv("FRONT_VERSIONS");
  std::istringstream names(named == nullptr ? "" : named);
  for (std::string name; std::getline(names, name, ':');) {
    std::ifstream file(name, std::ios::binary);
    Version version;
    CHECK(version.ParseFromIstream(&file));
    signatures.push_back(std::make_shared<const Signature>(version));
  }
  CHECK(!signatures.empty());
  return signatures;
}

std::unique_ptr<Request> Decoded(const std::shared_ptr<const Signature>& signature, const uint8_t* data, size_t size) {
  auto message = std::make_unique<inference::ModelInferRequest>();
  if (!message->ParseFromArray(data, static_cast<int>(size))) return nullptr;
  return Request::Decode(signature, std::move(message), kNeverNs, kNowNs);
}

// What the rest relies on.
void CheckTicket(const Signature& signature, const Request& request) {
  CHECK(request.rows() >= 1 && request.rows() <= signature.max_rows);
  CHECK(request.time() >= 1 && request.time() <= signature.max_steps);
  for (const int64_t length : request.lengths()) CHECK(length >= 1 && length <= request.time());
  CHECK(request.deadline_ns() >= kNowNs && request.priority() >= 0 && request.priority() <= 9);
}

// A span that may be anything is either within the request, or nothing is copied.
void TryAnySpan(const Signature& signature, Request& request, Random& random) {
  const int64_t numbers[] = {0, 1, 2, -1, INT64_MAX, INT64_MIN, request.rows(), request.time(), request.lengths()[0]};
  const auto any = [&] { return numbers[random() % std::size(numbers)]; };
  Run run(signature, 1, 1 + static_cast<int64_t>(random() % 3));
  const Span span{any(), any(), any(), 0};
  CHECK(request.Gather(span, run.batch()) == request.Scatter(span, run.computed()));
}

void CheckGathered(const Signature& signature, const Request& request, const Span& span, const Run& run) {
  const auto row = static_cast<size_t>(span.row), position = static_cast<size_t>(span.position);
  for (size_t index = 0; index < signature.inputs.size(); ++index) {
    const InputField& field = signature.inputs[index];
    const size_t bytes = run.inputs.size(index) / run.rows;
    const char* const gathered = run.inputs.at(index) + position * bytes;
    size_t first = row, real = bytes;
    if (field.follows_time) {
      first = row * static_cast<size_t>(request.time()) + static_cast<size_t>(span.start);
      real = static_cast<size_t>(span.stop - span.start) * field.row_bytes;
    }
    CHECK(std::memcmp(gathered, request.input(index) + first * field.row_bytes, real) == 0);
    for (size_t place = real; place < bytes; ++place) CHECK(gathered[place] == 0);
  }
}

void RunRows(const Signature& signature, Request& request, Random& random) {
  for (int64_t row = 0; row < request.rows(); ++row) {
    const int64_t length = request.lengths()[static_cast<size_t>(row)];
    for (int64_t start = 0, stop; start < length; start = stop) {
      stop = start + 1 + static_cast<int64_t>(random() % static_cast<uint64_t>(length - start));
      Run run(signature, 1 + random() % 2, stop - start + static_cast<int64_t>(random() % 2));
      const Span span{row, start, stop, static_cast<int64_t>(random() % run.rows)};
      CHECK(request.Gather(span, run.batch()));
      CheckGathered(signature, request, span, run);
      for (size_t output = 0; output < run.outputs.count(); ++output) {
        std::memset(run.outputs.at(output), 1, run.outputs.size(output));
      }
      CHECK(request.Scatter(span, run.computed()));
    }
  }
}

void CheckAnswer(const Request& request, const inference::ModelInferResponse& answer) {
  const auto& asked = request.message();
  CHECK(answer.id() == asked.id());
  CHECK(asked.outputs_size() == 0 || asked.outputs_size() == answer.outputs_size());
  CHECK(answer.outputs_size() == answer.raw_output_contents_size());
  for (int index = 0; index < answer.outputs_size(); ++index) {
    const auto& output = answer.outputs(index);
    CHECK(output.shape(0) == request.rows());
    const size_t item = output.datatype() == "INT64" ? 8 : output.datatype() == "UINT8" ? 1 : 4;
    CHECK(BytesOf({output.shape().begin(), output.shape().end()}, item) == answer.raw_output_contents(index).size());
  }
}

void Serve(const Signature& signature, Request& request, bool of_stream, Random& random) {
  CheckTicket(signature, request);
  request.BeginAnswer(of_stream);
  TryAnySpan(signature, request, random);
  RunRows(signature, request, random);
  const Request::Answer answer = request.TakeAnswer();
  inference::ModelStreamInferResponse streamed;
  auto& response = *streamed.mutable_infer_response();
  auto& parsed = of_stream ? static_cast<google::protobuf::Message&>(streamed) : response;
  CHECK(parsed.ParseFromArray(answer.content.get(), static_cast<int>(answer.size)));
  CHECK(streamed.infer_response().parameters().count("triton_final_response") == of_stream);
  CheckAnswer(request, streamed.infer_response());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto signatures = ReadVersions();
  if (size < kChoosingBytes) return -1;
  size -= kChoosingBytes;
  const auto& signature = signatures[data[size] % signatures.size()];
  uint32_t seed;
  std::memcpy(&seed, data + size + 1, sizeof(seed));
  Random random(seed);
  for (const bool of_stream : {false, true}) {
    const std::unique_ptr<Request> request = Decoded(signature, data, size);
    if (request) Serve(*signature, *request, of_stream, random);
  }
  return 0;
}
