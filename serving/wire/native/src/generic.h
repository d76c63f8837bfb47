// A call of any other method, which Python answers.
#pragma once

#include "front.h"
#include "health.h"
#include "tag.h"

namespace lstm_front {

class GenericCall final : public Watcher, public BridgedCall, public Droppable, public std::enable_shared_from_this<GenericCall> {
 public:
  explicit GenericCall(Front& front);

  // An exception has met what was done for it, which ends it.
  void Failed(const std::exception& error) noexcept;

  // Of a health watch: how its service is now, and that there will be no more.
  void Tell(int32_t status) override;
  void End() override;

  static void Accept(Front& front);

  Opening Describe() override;
  void Receive() override;
  void Send(std::string content) override;
  void Finish(const Ending& ending, const std::string* content) override;
  bool active() const override { return active_; }

  void Drop() override { EndUnread(context_); }

 private:
  void Requested(bool ok);
  void Over(bool ok);
  void ReadDone(bool ok);
  void WriteDone(bool ok);
  void Finished(bool ok);
  void Bridge();
  void CheckHealth();
  void GoOn();
  void FinishLocked(const Ending& ending, const std::string* content);

  Front& front_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  MemberTag<GenericCall> requested_{&GenericCall::Requested}, over_{&GenericCall::Over}, read_{&GenericCall::ReadDone},
      written_{&GenericCall::WriteDone}, finished_{&GenericCall::Finished};
  int64_t begun_ns_ = 0, deadline_ns_ = 0;
  std::string request_id_;
  std::atomic<bool> active_{true}, bridged_{false};
  enum { kPythons, kCheck, kWatch } kind_ = kPythons;

  std::mutex mutex_;
  std::string content_;  // what was read before Python got the call
  bool read_ahead_ = false, sending_ = false, ending_ = false;
  int32_t news_ = -1;  // of what could not be sent yet, the newest
  grpc::ByteBuffer request_, sending_content_;
  std::optional<size_t> last_;  // bytes of the last message; an empty one is a message too
  bool finishing_ = false;
};

}  // namespace lstm_front
