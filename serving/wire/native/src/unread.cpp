#include "unread.h"

#include <algorithm>
#include <vector>

namespace lstm_front {

void Unread::Add(const std::shared_ptr<Droppable>& call, size_t bytes) {
  const int64_t count = static_cast<int64_t>(bytes) + kCallBytes;
  std::vector<std::shared_ptr<Droppable>> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!call->held_) {
      call->place_ = calls_.insert(calls_.end(), {call, 0});
      call->held_ = true;
    }
    call->place_->bytes += count;
    bytes_ += count;
    for (auto other = calls_.begin(); bytes_ > max_bytes_ && other != calls_.end();) {
      if (other->call == call) {
        ++other;
        continue;
      }
      bytes_ -= other->bytes;
      other->call->held_ = false;
      dropped.push_back(std::move(other->call));
      other = calls_.erase(other);
    }
  }
  for (const auto& other : dropped) other->Drop();
}

void Unread::Sent(Droppable& call, size_t bytes) {
  const int64_t count = static_cast<int64_t>(bytes) + kCallBytes;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (!call.held_) return;
  const int64_t taken = std::min(call.place_->bytes, count);
  call.place_->bytes -= taken;
  bytes_ -= taken;
  if (call.place_->bytes != 0) {
    calls_.splice(calls_.end(), calls_, call.place_);
    return;
  }
  call.held_ = false;
  calls_.erase(call.place_);
}

}  // namespace lstm_front
