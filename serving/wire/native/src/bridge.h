// Calls that Python answers: what happens on them waits in a queue, which a thread of Python's reads.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "seam.pb.h"

namespace lstm_front {

class BridgedCall {
 public:
  virtual ~BridgedCall() = default;
  virtual Opening Describe() = 0;
  // Have the next message told (kMessage), or that there are no more (kEnd).
  virtual void Receive() = 0;
  // Sends a message, which is told when the next may follow (kSent).
  virtual void Send(std::string content) = 0;
  // Ends the call; `content` is a last message, or nullptr. To be called exactly once.
  virtual void Finish(const Ending& ending, const std::string* content) = 0;
  virtual bool active() const = 0;

  std::atomic<int64_t> id{0};  // 0 until the bridge has it; who ends the call may be asking meanwhile
};

class Bridge {
 public:
  enum Kind : int32_t { kClosed = 0, kNew, kMessage, kEnd, kSent, kGone };
  struct Event {
    Kind kind;
    int64_t call;
    std::string content;
  };

  // Takes a call; false if Python has `most` under way already.
  bool Open(const std::shared_ptr<BridgedCall>& call, size_t most);
  void Push(Event event);
  // Waits for the next event; kClosed when there will be no more.
  Event Next();
  void Close();

  std::shared_ptr<BridgedCall> Find(int64_t id) const;
  // Python has no more to say to it.
  void Release(int64_t id);

 private:
  mutable std::mutex mutex_;
  std::condition_variable came_;
  std::deque<Event> events_;
  std::unordered_map<int64_t, std::shared_ptr<BridgedCall>> calls_;
  int64_t last_id_ = 0;
  bool closed_ = false;
};

}  // namespace lstm_front
