// One call of ModelInfer.
#pragma once

#include "front.h"
#include "tag.h"

namespace lstm_front {

class UnaryCall final : public Asker, public BridgedCall, public Droppable, public std::enable_shared_from_this<UnaryCall> {
 public:
  explicit UnaryCall(Front& front);

  // Takes the next call that comes.
  static void Accept(Front& front);
  // An exception has met what was done for it.
  void Failed(const std::exception& error) noexcept;

  void Answer(Request::Answer answer) override;
  void Fail(const Ending& ending) override;
  void Refer(std::string message, bool chosen) override;
  void Read(const inference::ModelInferRequest&) override {}
  bool of_stream() const override { return false; }
  std::string RequestId() override;

  Opening Describe() override;
  void Receive() override;
  void Send(std::string) override {}
  void Finish(const Ending& ending, const std::string* content) override;
  bool active() const override { return active_; }

  void Drop() override { EndUnread(context_); }

 private:
  void Requested(bool ok);
  void ReadDone(bool ok);
  void Over(bool ok);
  void Finished(bool ok);
  bool EndsNow() { return !ended_.exchange(true); }
  void Send(const grpc::ByteBuffer& buffer);

  Front& front_;
  grpc::ServerContext context_;
  Stream stream_{&context_};
  grpc::ByteBuffer request_;
  MemberTag<UnaryCall> requested_{&UnaryCall::Requested}, over_{&UnaryCall::Over}, read_{&UnaryCall::ReadDone},
      finished_{&UnaryCall::Finished};
  int64_t begun_ns_ = 0, deadline_ns_ = 0;
  std::string request_id_, content_;
  size_t sent_ = 0;
  Front::Taken taken_;
  bool chosen_ = false, unread_ = false;
  std::atomic<bool> ended_{false}, active_{true}, referred_{false};
};

}  // namespace lstm_front
