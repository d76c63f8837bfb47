// One call of ModelStreamInfer: many requests, answered in their order. The next is read while earlier ones are under way.
#pragma once

#include <deque>

#include "front.h"
#include "tag.h"

namespace lstm_front {

class StreamCall;

// A request's place in the order of answers.
class Turn final : public Asker, public BridgedCall, public std::enable_shared_from_this<Turn> {
 public:
  Turn(Front& front, std::shared_ptr<StreamCall> stream, int64_t begun_ns);

  void Answer(Request::Answer answer) override;
  void Fail(const Ending& ending) override;
  void Refer(std::string message, bool chosen) override;
  void Read(const inference::ModelInferRequest& message) override;
  bool of_stream() const override { return true; }
  std::string RequestId() override;

  Opening Describe() override;
  void Receive() override;
  void Send(std::string) override {}
  void Finish(const Ending& ending, const std::string* content) override;
  bool active() const override;

  // Nobody waits for it any more.
  void Cancel();

 private:
  friend class StreamCall;
  bool EndsNow() { return !ended_.exchange(true); }

  Front& front_;
  const std::shared_ptr<StreamCall> stream_;
  const int64_t begun_ns_;
  std::string model_, version_, request_, content_;
  bool read_ = false, chosen_ = false;
  std::atomic<bool> ended_{false}, referred_{false};
  Front::Taken taken_;  // guarded by the stream's mutex, as what follows
  grpc::ByteBuffer answer_;
  bool answered_ = false, withdrawn_ = false;
};

class StreamCall final : public BridgedCall, public Droppable, public std::enable_shared_from_this<StreamCall> {
 public:
  explicit StreamCall(Front& front);

  static void Accept(Front& front);

  // An exception has met what was done for it, which ends it.
  void Failed(const std::exception& error) noexcept;
  // Reads no more; what is under way is still answered.
  void Drain();

  // A caller that is not known: Python words the refusal.
  Opening Describe() override;
  void Receive() override {}
  void Send(std::string) override {}
  void Finish(const Ending& ending, const std::string* content) override;
  bool active() const override { return active_; }

  void Drop() override { EndUnread(context_); }

 private:
  friend class Turn;
  void Requested(bool ok);
  void Over(bool ok);
  void ReadDone(bool ok);
  void WriteDone(bool ok);
  void Finished(bool ok);

  void Answered(Turn& turn, grpc::ByteBuffer answer);
  // The turn's bytes were no message, which ends the stream.
  void Withdraw(Turn& turn, const Ending& ending);
  void End(const Ending& ending);
  void GoOn();

  static constexpr size_t kOutstanding = 32;  // the next is not read before one is answered, so TCP slows the sender

  Front& front_;
  grpc::ServerContext context_;
  Stream stream_{&context_};
  MemberTag<StreamCall> requested_{&StreamCall::Requested}, over_{&StreamCall::Over}, read_{&StreamCall::ReadDone},
      written_{&StreamCall::WriteDone}, finished_{&StreamCall::Finished};
  int64_t begun_ns_ = 0, deadline_ns_ = 0;
  std::atomic<bool> active_{true};
  bool has_slot_ = false, referred_ = false;

  std::mutex mutex_;
  std::string request_id_;
  std::deque<std::shared_ptr<Turn>> turns_;
  grpc::ByteBuffer request_, sending_content_;
  const Turn* unreadable_ = nullptr;  // Python looks whether it is a request; if it is none, no other is read
  bool reading_ = false, sending_ = false, ending_ = false, finishing_ = false;
  Ending end_;
};

}  // namespace lstm_front
