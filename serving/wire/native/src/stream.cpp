#include "stream.h"

#include <iterator>

#include "monotonic.h"

namespace lstm_front {
namespace {

constexpr char kReasonKey[] = "reason";
constexpr char kPushbackKey[] = "grpc-retry-pushback-ms";
constexpr char kRequestIdKey[] = "x-request-id";

const char* NameOf(int code) {
  static constexpr const char* kNames[] = {
      "OK",        "CANCELLED",      "UNKNOWN",          "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",   "NOT_FOUND",
      "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
      "UNIMPLEMENTED", "INTERNAL",   "UNAVAILABLE",      "DATA_LOSS",          "UNAUTHENTICATED"};
  return code >= 0 && code < static_cast<int>(std::size(kNames)) ? kNames[code] : "UNKNOWN";
}

}  // namespace

Turn::Turn(Front& front, std::shared_ptr<StreamCall> stream, int64_t begun_ns)
    : front_(front), stream_(std::move(stream)), begun_ns_(begun_ns) {}

void Turn::Read(const inference::ModelInferRequest& message) {
  read_ = true;
  model_ = message.model_name();
  version_ = message.model_version();
  request_ = message.id();
}

void Turn::Answer(Request::Answer answer) {
  if (EndsNow()) stream_->Answered(*this, BufferOf(std::move(answer.content), answer.size));
}

void Turn::Fail(const Ending& ending) {
  if (!EndsNow()) return;
  if (!read_) {
    stream_->Withdraw(*this, ending);
    return;
  }
  inference::ModelStreamInferResponse failed;
  failed.set_error_message(ending.message());
  auto& response = *failed.mutable_infer_response();
  response.set_model_name(model_);
  response.set_model_version(version_);
  response.set_id(request_);
  auto& parameters = *response.mutable_parameters();
  parameters["triton_final_response"].set_bool_param(true);
  parameters["grpc_status"].set_string_param(NameOf(ending.code()));
  for (const auto& pair : ending.metadata()) {
    if (pair.key() == kReasonKey) parameters["reason"].set_string_param(pair.value());
    if (pair.key() == kPushbackKey) parameters["retry_after_ms"].set_int64_param(std::stoll(pair.value()));
    if (pair.key() == kRequestIdKey) {  // the status of the stream will tell it
      const std::lock_guard<std::mutex> lock(stream_->mutex_);
      if (stream_->request_id_.empty()) stream_->request_id_ = pair.value();
    }
  }
  stream_->Answered(*this, BufferOf(failed.SerializeAsString()));
}

void Turn::Finish(const Ending& ending, const std::string* content) {
  if (content == nullptr) {
    Fail(ending);
    return;
  }
  if (!EndsNow()) return;
  const std::string& end = FinalParameter();
  stream_->Answered(*this, BufferOf(StreamPrefix(content->size() + end.size()) + *content + end));
}

void Turn::Refer(std::string message, bool chosen) {
  content_ = std::move(message);
  chosen_ = chosen;
  referred_ = true;
  front_.Refer(shared_from_this(), [this](const Ending& ending) { Fail(ending); });
  if (!active()) front_.referrals.Push({Bridge::kGone, id, {}});  // `Cancel` may have come too early to tell
}

std::string Turn::RequestId() {
  const std::lock_guard<std::mutex> lock(stream_->mutex_);
  if (stream_->request_id_.empty()) stream_->request_id_ = MakeRequestId();
  return stream_->request_id_;
}

Opening Turn::Describe() {
  Opening opening;
  opening.set_path(kStreamPath);
  opening.set_chosen(chosen_);
  const std::lock_guard<std::mutex> lock(stream_->mutex_);
  lstm_front::Describe(stream_->context_, stream_->deadline_ns_, begun_ns_, stream_->request_id_, opening);
  return opening;
}

void Turn::Receive() { front_.referrals.Push({Bridge::kMessage, id, std::move(content_)}); }

bool Turn::active() const { return stream_->active_; }

void Turn::Cancel() {
  if (ended_) return;
  if (referred_) {
    front_.referrals.Push({Bridge::kGone, id, {}});
    return;
  }
  Front::Taken taken;
  {
    const std::lock_guard<std::mutex> lock(stream_->mutex_);
    taken = taken_;
  }
  if (taken.entry) front_.Cancel(taken);
}

StreamCall::StreamCall(Front& front) : front_(front) {}

void StreamCall::Accept(Front& front) {
  if (front.closed()) return;
  const auto call = std::make_shared<StreamCall>(front);
  call->context_.AsyncNotifyWhenDone(call->over_.Of(call));
  front.service.Request(InferenceService::kStreamInfer, call->context_, call->stream_, *front.queue,
                        call->requested_.Of(call));
}

void StreamCall::Requested(bool ok) {
  if (!ok) {
    over_.Drop();
    return;
  }
  Accept(front_);
  front_.Count(1);
  begun_ns_ = MonotonicNs();
  deadline_ns_ = DeadlineNs(context_, begun_ns_);
  request_id_ = RequestIdOf(context_);
  std::shared_ptr<const Client> client;
  if (!front_.Knows(context_, client)) {
    referred_ = true;
    front_.Refer(shared_from_this(), [this](const Ending& ending) { Finish(ending, nullptr); });
    return;
  }
  has_slot_ = front_.TakeStreamSlot();
  if (!has_slot_) {
    front_.NotServed(front_.settings.streams_full());
    Finish(EndingOf(front_.settings.streams_full()), nullptr);
    return;
  }
  front_.Opened(shared_from_this());
  GoOn();
}

void StreamCall::Failed(const std::exception& error) noexcept {
  try {
    End(front_.Fault(error));
  } catch (const std::exception&) {
    context_.TryCancel();
  }
}

void StreamCall::Drain() { End(EndingOf(front_.settings.stream_draining())); }

void StreamCall::Over(bool) {
  if (!context_.IsCancelled()) return;
  active_ = false;
  if (referred_) front_.referrals.Push({Bridge::kGone, id, {}});
  std::deque<std::shared_ptr<Turn>> under_way;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    under_way = turns_;
  }
  Ending left;
  left.set_code(grpc::StatusCode::CANCELLED);
  End(left);
  for (const auto& turn : under_way) turn->Cancel();
}

void StreamCall::ReadDone(bool ok) {
  std::shared_ptr<Turn> turn;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    reading_ = false;
    if (ending_) return;
    if (ok) {
      turn = std::make_shared<Turn>(front_, shared_from_this(), MonotonicNs());
      turns_.push_back(turn);
    }
  }
  if (!ok) {
    End({});
    return;
  }
  Front::Taken taken;
  try {
    Arrival arrival{context_, BytesOf(request_), deadline_ns_};
    request_.Clear();
    taken = front_.Take(turn, arrival);
  } catch (const std::exception& error) {
    turn->Fail(front_.Fault(error));
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!turn->ended_) {
      turn->taken_ = std::move(taken);
      unreadable_ = turn->read_ ? nullptr : turn.get();
    }
  }
  GoOn();
}

void StreamCall::Answered(Turn& turn, grpc::ByteBuffer answer) {
  front_.unread.Add(shared_from_this(), answer.Length());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (unreadable_ == &turn) unreadable_ = nullptr;
    turn.answer_.Swap(&answer);
    turn.answered_ = true;
  }
  GoOn();
}

void StreamCall::Withdraw(Turn& turn, const Ending& ending) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (unreadable_ == &turn) unreadable_ = nullptr;
    turn.withdrawn_ = true;
    ending_ = true;
    if (end_.code() == grpc::StatusCode::OK) end_ = ending;
  }
  GoOn();
}

void StreamCall::End(const Ending& ending) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!ending_) {
      ending_ = true;
      end_ = ending;
    }
  }
  GoOn();
}

// Does what can be done now: sends the next answer if it is there, reads if there is room, ends at the end.
void StreamCall::GoOn() {
  std::shared_ptr<Turn> answered;  // freed outside of the lock, as is what it holds
  Front::Taken taken;
  bool over = false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finishing_) return;
    while (!turns_.empty() && turns_.front()->withdrawn_) turns_.pop_front();
    if (!sending_ && !turns_.empty() && turns_.front()->answered_) {
      answered = std::move(turns_.front());
      turns_.pop_front();
      taken = std::move(answered->taken_);  // it leads back to the turn
      answered->taken_ = {};
      sending_ = true;
      sending_content_.Swap(&answered->answer_);
      stream_.Write(sending_content_, written_.Of(shared_from_this()));
    }
    if (!ending_ && !reading_ && unreadable_ == nullptr && turns_.size() + sending_ < kOutstanding) {
      reading_ = true;
      stream_.Read(&request_, read_.Of(shared_from_this()));
    }
    over = ending_ && turns_.empty() && !sending_;
    if (over) {
      finishing_ = true;
      AddMetadata(context_, end_, request_id_);
      stream_.Finish(StatusOf(end_), finished_.Of(shared_from_this()));
    }
  }
  if (over && has_slot_) front_.Over(shared_from_this());
}

void StreamCall::WriteDone(bool) {
  size_t size;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    size = sending_content_.Length();
    sending_content_.Clear();
    sending_ = false;
  }
  front_.unread.Sent(*this, size);
  GoOn();
}

void StreamCall::Finished(bool) { front_.Count(-1); }

Opening StreamCall::Describe() {
  Opening opening;
  opening.set_path(kStreamPath);
  opening.set_unread(true);
  lstm_front::Describe(context_, deadline_ns_, begun_ns_, request_id_, opening);
  return opening;
}

void StreamCall::Finish(const Ending& ending, const std::string*) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finishing_) return;
  finishing_ = true;
  AddMetadata(context_, ending, request_id_);
  stream_.Finish(StatusOf(ending), finished_.Of(shared_from_this()));
}

}  // namespace lstm_front
