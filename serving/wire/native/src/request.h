// One request: its message, checked, the rows in it, and its answer in the making.
//
// Nothing here knows gRPC, queues or threads, so that it can be fuzzed as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "open_inference.pb.h"
#include "signature.h"

namespace lstm_front {

// Steps `start` up to `stop` (exclusive) of one row of a request, and the row of a batch where they are.
struct Span {
  int64_t row, start, stop, position;
};

// Rows of a batch, each `steps` long in what follows time.
struct Batch {
  int64_t steps;
  char* const* inputs;   // by position in the signature
  float* states;         // of a stepwise model
};

struct Computed {
  int64_t steps;
  const char* const* outputs;  // the graph's, in the order of the manifest
  const float* states;
};

class Request {
 public:
  // Checks a message; an empty optional says that Python has to word what is wrong, or to serve it.
  //
  // `deadline_ns` is the call's, `now_ns` the time, both on the monotonic clock.
  static std::unique_ptr<Request> Decode(std::shared_ptr<const Signature> signature,
                                         std::unique_ptr<inference::ModelInferRequest> message, int64_t deadline_ns,
                                         int64_t now_ns);

  const Signature& signature() const { return *signature_; }
  const inference::ModelInferRequest& message() const { return *message_; }
  int64_t rows() const { return static_cast<int64_t>(lengths_.size()); }
  int64_t time() const { return time_; }
  const std::vector<int64_t>& lengths() const { return lengths_; }
  int64_t deadline_ns() const { return deadline_ns_; }
  int64_t priority() const { return priority_; }  // 0: the model's
  int64_t began_ns() const { return began_ns_; }
  const char* input(size_t index) const { return inputs_[index].data; }
  const std::vector<float>& states() const { return states_; }

  // Copies a span into a batch, with zeros after its end. False if it is not within the request.
  bool Gather(const Span& span, const Batch& batch) const;
  // Copies what was computed of a span to where it will be sent from; other spans may be copied by other threads.
  bool Scatter(const Span& span, const Computed& computed);
  // Allocates the answer; before the first `Scatter`. Throws std::bad_alloc, also for one larger than any message.
  void BeginAnswer(bool of_stream);
  bool answering() const { return answer_ != nullptr; }

  // The message that answers, once every span has been scattered.
  struct Answer {
    std::unique_ptr<char[]> content;
    size_t size = 0;
  };
  Answer TakeAnswer();

  int64_t queued_ns = 0;

 private:
  struct View {
    const char* data = nullptr;
    size_t bytes = 0;
  };
  struct Place {
    int output;
    char* content;
  };

  Request() = default;
  bool Read();
  bool ReadParameters(int64_t call_deadline_ns, int64_t now_ns);
  bool ReadWanted();
  bool ViewTensor(int index, const Field& field, View& view, std::vector<int64_t>& shape) const;
  bool ReadLengths(const View& view);
  bool ReadState(int index);
  bool CheckValues(size_t index);

  std::shared_ptr<const Signature> signature_;
  std::unique_ptr<inference::ModelInferRequest> message_;
  std::vector<View> inputs_;
  std::vector<int64_t> lengths_;
  int64_t time_ = 0;
  int64_t deadline_ns_ = 0, began_ns_ = 0, priority_ = 0;
  std::vector<int> wanted_;  // positions of outputs; a client may ask for one twice
  std::vector<float> states_;

  std::unique_ptr<char[]> answer_;
  size_t answer_size_ = 0;
  std::vector<Place> places_;
};

// Bytes of a tensor of this shape, or nothing if there is none so large.
std::optional<size_t> BytesOf(const std::vector<int64_t>& shape, size_t item_bytes);

// What every answer of a stream has among its parameters, as bytes to be put behind those of a ModelInferResponse.
const std::string& FinalParameter();

// Writes field 2 of a ModelStreamInferResponse before `size` bytes of a ModelInferResponse.
std::string StreamPrefix(size_t size);

}  // namespace lstm_front
