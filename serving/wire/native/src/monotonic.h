// Times on the monotonic clock, as Python's `time.monotonic_ns` tells them.
#pragma once

#include <cstdint>
#include <ctime>

namespace lstm_front {

constexpr int64_t kNanoseconds = 1'000'000'000;
constexpr int64_t kNeverNs = INT64_MAX;  // later than any deadline

inline int64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * kNanoseconds + now.tv_nsec;
}

}  // namespace lstm_front
