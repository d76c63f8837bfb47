#include "generic.h"

#include <algorithm>

#include "inflation.h"
#include "monotonic.h"

namespace lstm_front {
namespace {

constexpr size_t kMostCalls = 8192;  // in Python, which has bounds of its own for each kind
constexpr char kOurService[] = "/inference.GRPCInferenceService/";
constexpr char kCheckPath[] = "/grpc.health.v1.Health/Check", kWatchPath[] = "/grpc.health.v1.Health/Watch";

}  // namespace

GenericCall::GenericCall(Front& front) : front_(front) {}

void GenericCall::Accept(Front& front) {
  if (front.closed()) return;
  const auto call = std::make_shared<GenericCall>(front);
  call->context_.AsyncNotifyWhenDone(call->over_.Of(call));
  front.others.RequestCall(&call->context_, &call->stream_, front.queue.get(), front.queue.get(),
                           call->requested_.Of(call));
}

void GenericCall::Requested(bool ok) {
  if (!ok) {
    over_.Drop();
    return;
  }
  Accept(front_);
  front_.Count(1);
  begun_ns_ = MonotonicNs();
  deadline_ns_ = DeadlineNs(context_, begun_ns_);
  request_id_ = RequestIdOf(context_);
  const auto& offered = front_.settings.offered();
  const std::string& path = context_.method();
  if (path.rfind(kOurService, 0) != 0 && std::find(offered.begin(), offered.end(), path) == offered.end()) {
    request_id_.clear();  // gRPC itself answers so where Python serves, and knows no ids
    Ending unknown;
    unknown.set_code(front_.settings.unoffered().code());
    unknown.set_message(front_.settings.unoffered().message());
    Finish(unknown, nullptr);
    return;
  }
  kind_ = path == kCheckPath ? kCheck : path == kWatchPath ? kWatch : kPythons;
  if (kind_ == kPythons) {
    Bridge();
  } else if (kind_ == kWatch && !front_.health.Enter()) {
    kind_ = kPythons;
    Finish(EndingOf(front_.settings.watches_full()), nullptr);
  } else {
    Receive();
  }
}

void GenericCall::Failed(const std::exception& error) noexcept {
  try {
    Finish(front_.Fault(error), nullptr);
  } catch (const std::exception&) {
    context_.TryCancel();
  }
}

void GenericCall::Bridge() {
  bridged_ = true;
  if (!front_.control.Open(shared_from_this(), kMostCalls)) Finish(EndingOf(front_.settings.referrals_full()), nullptr);
}

// Answers a probe; what it cannot answer, Python does.
void GenericCall::CheckHealth() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (finishing_) return;  // the client had left, and that was seen first
  }
  HealthCheckRequest request;
  const bool read = read_ahead_ && !LooksCompressed(content_) && request.ParseFromString(content_);
  if (kind_ == kWatch && read) {
    front_.health.Join(shared_from_this(), request.service());
    return;
  }
  const int32_t status = read ? front_.health.Status(request.service()) : -1;
  if (status < 0) {
    if (kind_ == kWatch) front_.health.Leave(shared_from_this());
    kind_ = kPythons;
    Bridge();
    return;
  }
  HealthCheckResponse response;
  response.set_status(status);
  const std::string content = response.SerializeAsString();
  Finish({}, &content);
}

void GenericCall::Tell(int32_t status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  news_ = status;
  GoOn();
}

void GenericCall::End() {
  const std::lock_guard<std::mutex> lock(mutex_);
  ending_ = true;
  GoOn();
}

// Of a watch, under the lock: sends what is new, after what is on its way, and ends at the end.
void GenericCall::GoOn() {
  if (sending_ || finishing_) return;
  if (news_ >= 0) {
    HealthCheckResponse response;
    response.set_status(news_);
    news_ = -1;
    sending_ = true;
    sending_content_ = BufferOf(response.SerializeAsString());
    front_.unread.Add(shared_from_this(), sending_content_.Length());
    stream_.Write(sending_content_, written_.Of(shared_from_this()));
  } else if (ending_) {
    FinishLocked(EndingOf(front_.settings.watch_draining()), nullptr);
  }
}

void GenericCall::Over(bool) {
  if (!context_.IsCancelled()) return;
  active_ = false;
  if (bridged_) front_.control.Push({lstm_front::Bridge::kGone, id, {}});
  if (kind_ != kWatch) return;
  Ending left;
  left.set_code(grpc::StatusCode::CANCELLED);
  left.set_message("the client ended the watch");
  Finish(left, nullptr);
}

Opening GenericCall::Describe() {
  Opening opening;
  opening.set_path(context_.method());
  lstm_front::Describe(context_, deadline_ns_, begun_ns_, request_id_, opening);
  return opening;
}

void GenericCall::Receive() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (read_ahead_) {
    read_ahead_ = false;
    front_.control.Push({lstm_front::Bridge::kMessage, id, std::move(content_)});
    return;
  }
  if (finishing_) {
    front_.control.Push({lstm_front::Bridge::kEnd, id, {}});
  } else {
    stream_.Read(&request_, read_.Of(shared_from_this()));
  }
}

void GenericCall::ReadDone(bool ok) {
  std::string content = ok ? lstm_front::BytesOf(request_) : std::string();
  request_.Clear();
  if (kind_ != kPythons) {
    content_ = std::move(content);
    read_ahead_ = ok;
    CheckHealth();
    return;
  }
  front_.control.Push({ok ? lstm_front::Bridge::kMessage : lstm_front::Bridge::kEnd, id, std::move(content)});
}

void GenericCall::Send(std::string content) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (finishing_) return;  // what is not sent must not be counted: nothing would take it off again
  front_.unread.Add(shared_from_this(), content.size());
  sending_content_ = BufferOf(content);
  stream_.Write(sending_content_, written_.Of(shared_from_this()));
}

void GenericCall::WriteDone(bool) {
  front_.unread.Sent(*this, sending_content_.Length());
  if (!bridged_) {
    const std::lock_guard<std::mutex> lock(mutex_);
    sending_ = false;
    GoOn();
    return;
  }
  front_.control.Push({lstm_front::Bridge::kSent, id, {}});
}

void GenericCall::Finish(const Ending& ending, const std::string* content) {
  const std::lock_guard<std::mutex> lock(mutex_);
  FinishLocked(ending, content);
}

void GenericCall::FinishLocked(const Ending& ending, const std::string* content) {
  if (finishing_) return;
  finishing_ = true;
  AddMetadata(context_, ending, request_id_);
  if (content == nullptr) {
    stream_.Finish(StatusOf(ending), finished_.Of(shared_from_this()));
    return;
  }
  last_ = content->size();
  front_.unread.Add(shared_from_this(), *last_);
  stream_.WriteAndFinish(BufferOf(*content), grpc::WriteOptions(), StatusOf(ending), finished_.Of(shared_from_this()));
}

void GenericCall::Finished(bool) {
  if (last_) front_.unread.Sent(*this, *last_);
  if (kind_ == kWatch) front_.health.Leave(shared_from_this());
  front_.Count(-1);
}

}  // namespace lstm_front
