#include "slots.h"

#include <algorithm>
#include <chrono>

namespace lstm_front {

void Slots::WaitEmpty(double seconds) {
  constexpr double kLongest = 1e6;  // far more than a drain, and no overflow
  std::unique_lock<std::mutex> lock(mutex_);
  left_.wait_for(lock, std::chrono::duration<double>(std::min(seconds, kLongest)), [this] { return taken_ == 0; });
}

}  // namespace lstm_front
