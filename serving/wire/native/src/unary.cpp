#include "unary.h"

#include "monotonic.h"

namespace lstm_front {

UnaryCall::UnaryCall(Front& front) : front_(front) {}

void UnaryCall::Accept(Front& front) {
  if (front.closed()) return;
  const auto call = std::make_shared<UnaryCall>(front);
  call->context_.AsyncNotifyWhenDone(call->over_.Of(call));
  front.service.Request(InferenceService::kInfer, call->context_, call->stream_, *front.queue,
                        call->requested_.Of(call));
}

void UnaryCall::Requested(bool ok) {
  if (!ok) {  // the server stops; then the other tag never comes
    over_.Drop();
    return;
  }
  Accept(front_);
  front_.Count(1);
  begun_ns_ = MonotonicNs();
  deadline_ns_ = DeadlineNs(context_, begun_ns_);
  request_id_ = RequestIdOf(context_);
  if (front_.draining()) {
    front_.NotServed(front_.settings.draining());
    Fail(EndingOf(front_.settings.draining()));
  } else if (deadline_ns_ != kNeverNs && front_.lag.Refuses(deadline_ns_ - begun_ns_)) {
    Fail(front_.Behind());
  } else if (std::shared_ptr<const Client> client; !front_.Knows(context_, client)) {
    unread_ = true;
    Refer("", false);
  } else {
    stream_.Read(&request_, read_.Of(shared_from_this()));
  }
}

void UnaryCall::ReadDone(bool ok) {
  front_.lag.Saw(MonotonicNs() - begun_ns_);
  if (!ok) {
    Ending none;
    none.set_code(grpc::StatusCode::UNIMPLEMENTED);
    none.set_message(std::string(kInferPath) + " takes exactly one message");
    Fail(none);
    return;
  }
  Arrival arrival{context_, BytesOf(request_), deadline_ns_};
  request_.Clear();
  taken_ = front_.Take(shared_from_this(), arrival);
}

void UnaryCall::Failed(const std::exception& error) noexcept {
  try {
    Fail(front_.Fault(error));
  } catch (const std::exception&) {
    context_.TryCancel();
  }
}

void UnaryCall::Over(bool) {
  const Front::Taken taken = std::move(taken_);
  taken_ = {};
  if (!context_.IsCancelled()) return;
  active_ = false;
  if (ended_) return;
  if (referred_) {
    front_.referrals.Push({Bridge::kGone, id, {}});
  } else if (taken.entry) {
    front_.Cancel(taken);
  }
}

void UnaryCall::Answer(Request::Answer answer) {
  if (!EndsNow()) return;
  sent_ = answer.size;
  Send(BufferOf(std::move(answer.content), answer.size));
}

void UnaryCall::Send(const grpc::ByteBuffer& buffer) {
  AddMetadata(context_, {}, request_id_);
  front_.unread.Add(shared_from_this(), sent_);
  stream_.WriteAndFinish(buffer, grpc::WriteOptions(), grpc::Status::OK, finished_.Of(shared_from_this()));
}

void UnaryCall::Fail(const Ending& ending) {
  if (!EndsNow()) return;
  AddMetadata(context_, ending, request_id_);
  stream_.Finish(StatusOf(ending), finished_.Of(shared_from_this()));
}

void UnaryCall::Finished(bool) {
  if (sent_ != 0) front_.unread.Sent(*this, sent_);
  front_.Count(-1);
}

void UnaryCall::Refer(std::string message, bool chosen) {
  content_ = std::move(message);
  chosen_ = chosen;
  referred_ = true;
  front_.Refer(shared_from_this(), [this](const Ending& ending) { Fail(ending); });
  if (!active_) front_.referrals.Push({Bridge::kGone, id, {}});  // `Over` may have come too early to tell
}

std::string UnaryCall::RequestId() {
  if (request_id_.empty()) request_id_ = MakeRequestId();  // only who is going to end the call asks
  return request_id_;
}

Opening UnaryCall::Describe() {
  Opening opening;
  opening.set_path(kInferPath);
  opening.set_chosen(chosen_);
  opening.set_unread(unread_);
  lstm_front::Describe(context_, deadline_ns_, begun_ns_, request_id_, opening);
  return opening;
}

void UnaryCall::Receive() { front_.referrals.Push({Bridge::kMessage, id, std::move(content_)}); }

void UnaryCall::Finish(const Ending& ending, const std::string* content) {
  if (content == nullptr) {
    Fail(ending);
    return;
  }
  if (!EndsNow()) return;
  sent_ = content->size();
  Send(BufferOf(*content));
}

}  // namespace lstm_front
