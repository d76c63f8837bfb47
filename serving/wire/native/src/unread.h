// Answers that have been handed to gRPC and that clients have not taken yet: their bytes are counted, and when they are
// too many, the call goes that has not moved for the longest time.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>

namespace lstm_front {

class Droppable {
 public:
  virtual ~Droppable() = default;
  // Ends the call without sending the rest.
  virtual void Drop() = 0;

 private:
  friend class Unread;
  struct Held {
    std::shared_ptr<Droppable> call;
    int64_t bytes;
  };
  std::list<Held>::iterator place_;
  bool held_ = false;
};

class Unread {
 public:
  explicit Unread(int64_t max_bytes) : max_bytes_(max_bytes) {}

  void Add(const std::shared_ptr<Droppable>& call, size_t bytes);
  // An answer has gone out, or never will.
  void Sent(Droppable& call, size_t bytes);

 private:
  static constexpr int64_t kCallBytes = 16 * 1024;  // what gRPC holds for a call beside its answer, roughly

  const int64_t max_bytes_;
  std::mutex mutex_;
  std::list<Droppable::Held> calls_;  // that moved last is last
  int64_t bytes_ = 0;
};

}  // namespace lstm_front
