// Work that other threads leave to the thread of a completion queue.
//
// An answer that a busy thread sends itself wakes the queue's thread to hear that it went out, and on one core waits
// for it, answer by answer. Left here, a batch of answers costs one waking.
#pragma once

#include <grpcpp/alarm.h>
#include <grpcpp/grpcpp.h>

#include <functional>
#include <mutex>
#include <shared_mutex>
#include <vector>

#include "tag.h"

namespace lstm_front {

class Posts final : public Tag {
 public:
  using Work = std::function<void()>;

  explicit Posts(grpc::CompletionQueue& queue) : queue_(queue) {}

  // Has the queue's thread do it soon, in the order of the calls; false if there is none. What it throws is lost.
  // Throws std::bad_alloc.
  bool Post(Work work);
  // There is a thread now.
  void Open();
  // There will be none: to be called before the queue is shut down.
  void Close();

  void Done(bool ok) noexcept override;

 private:
  grpc::CompletionQueue& queue_;
  grpc::Alarm alarm_;
  std::shared_mutex opening_;  // shared by those that may still tell the queue
  bool open_ = false;
  std::mutex mutex_;
  std::vector<Work> posted_;
  bool told_ = false;
};

}  // namespace lstm_front
