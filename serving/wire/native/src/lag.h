// How far the thread that takes calls is behind, and whom that costs too much: see serving/wire/lag.py.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "monotonic.h"

namespace lstm_front {

class Lag {
 public:
  int64_t ns() const { return ns_; }
  // Whether it is more than a burst makes.
  bool matters() const { return ns_ > kLeastNs; }

  // A message has waited for so long.
  void Saw(int64_t wait_ns) {
    waits_[next_++ % kRecent] = wait_ns;
    ns_ = *std::min_element(waits_.begin(), waits_.end());
  }
  // Nothing waits.
  void CaughtUp() {
    waits_.fill(0);
    ns_ = 0;
  }
  // Whether a call that has so much time left now has waited for too long already.
  bool Refuses(int64_t left_ns) const { return matters() && ns_ > (ns_ + left_ns) / kShare; }

 private:
  static constexpr int64_t kLeastNs = 5 * kNanoseconds / 1000;
  static constexpr size_t kRecent = 4;
  static constexpr int64_t kShare = 5;

  std::array<int64_t, kRecent> waits_{};
  size_t next_ = 0;
  int64_t ns_ = 0;
};

}  // namespace lstm_front
