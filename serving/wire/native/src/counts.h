// What was counted of requests that Python has not seen; it reads this when the metrics are read.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "seam.pb.h"

namespace lstm_front {

class Histogram {
 public:
  // `bounds` in seconds, ascending.
  explicit Histogram(const std::vector<double>& bounds);

  void Observe(int64_t ns);
  void Write(Counts::Histogram& histogram) const;

 private:
  std::vector<int64_t> bounds_ns_;
  std::vector<std::atomic<uint64_t>> buckets_;
  std::atomic<int64_t> sum_ns_{0};
};

// Of one model version, whoever serves it: one that is loaded again goes on.
class VersionCounts {
 public:
  VersionCounts(size_t outcomes, const std::vector<double>& bounds);

  void Ended(size_t outcome, int64_t ns);  // outcome 0: ok
  void Queued(int64_t ns) { queue_.Observe(ns); }
  void Write(Counts::OfVersion& counts) const;

 private:
  std::vector<std::atomic<uint64_t>> outcomes_;
  Histogram ok_, error_, queue_;
  std::atomic<int64_t> last_ok_ns_{0};
};

class AllCounts {
 public:
  // Throws std::invalid_argument if the first outcome is not `ok`.
  AllCounts(std::vector<std::string> outcomes, std::vector<double> bounds);

  std::shared_ptr<VersionCounts> OfVersion(const std::string& model, const std::string& version);
  void Forget(const std::string& model, const std::string& version);
  void NotServed(size_t outcome) { not_served_[outcome].fetch_add(1, std::memory_order_relaxed); }
  // Throws std::invalid_argument for one that was not listed.
  size_t Outcome(const std::string& name) const;
  Counts Read() const;

 private:
  const std::vector<std::string> outcomes_;
  const std::vector<double> bounds_;
  std::vector<std::atomic<uint64_t>> not_served_;
  mutable std::mutex mutex_;
  std::map<std::pair<std::string, std::string>, std::shared_ptr<VersionCounts>> versions_;
};

}  // namespace lstm_front
