#include "bridge.h"

namespace lstm_front {

bool Bridge::Open(const std::shared_ptr<BridgedCall>& call, size_t most) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (closed_ || calls_.size() >= most) return false;
  const int64_t id = ++last_id_;
  call->id = id;
  calls_.emplace(id, call);
  events_.push_back({kNew, id, {}});
  came_.notify_one();
  return true;
}

void Bridge::Push(Event event) {
  const std::lock_guard<std::mutex> lock(mutex_);
  events_.push_back(std::move(event));
  came_.notify_one();
}

Bridge::Event Bridge::Next() {
  std::unique_lock<std::mutex> lock(mutex_);
  came_.wait(lock, [this] { return closed_ || !events_.empty(); });
  if (events_.empty()) return {kClosed, 0, {}};
  Event event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Bridge::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  came_.notify_all();
}

std::shared_ptr<BridgedCall> Bridge::Find(int64_t id) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = calls_.find(id);
  return found == calls_.end() ? nullptr : found->second;
}

void Bridge::Release(int64_t id) {
  std::shared_ptr<BridgedCall> call;
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = calls_.find(id);
  if (found == calls_.end()) return;
  call = std::move(found->second);
  calls_.erase(found);
}

}  // namespace lstm_front
