// Room for so many requests at a time, and for so many of one client's.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace lstm_front {

class Slots {
 public:
  enum Taken { kTaken, kFull, kClientFull };

  // `per_client` 0 lets a client take all.
  Slots(int64_t count, int64_t per_client) : count_(count), per_client_(per_client) {}

  bool limits_clients() const { return per_client_ != 0; }

  Taken Take(const std::string& client) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (taken_ == count_) return kFull;
    if (per_client_ != 0) {
      int64_t& taken = taken_by_[client];
      if (taken == per_client_) return kClientFull;
      ++taken;
    }
    ++taken_;
    return kTaken;
  }

  void GiveBack(const std::string& client) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (per_client_ != 0) {
      const auto found = taken_by_.find(client);
      if (--found->second == 0) taken_by_.erase(found);
    }
    if (--taken_ == 0) left_.notify_all();
  }

  // Returns when no place is taken, or when the seconds are over.
  void WaitEmpty(double seconds);

 private:
  const int64_t count_, per_client_;
  std::mutex mutex_;
  std::condition_variable left_;
  int64_t taken_ = 0;
  std::unordered_map<std::string, int64_t> taken_by_;
};

}  // namespace lstm_front
