#include "counts.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <stdexcept>

#include "monotonic.h"

namespace lstm_front {
namespace {

int64_t TimeOfDayNs() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return now.tv_sec * kNanoseconds + now.tv_nsec;
}

double Seconds(int64_t ns) { return static_cast<double>(ns) / static_cast<double>(kNanoseconds); }

}  // namespace

Histogram::Histogram(const std::vector<double>& bounds) : buckets_(bounds.size() + 1) {
  for (const double bound : bounds) {
    bounds_ns_.push_back(std::llround(bound * static_cast<double>(kNanoseconds)));
  }
}

void Histogram::Observe(int64_t ns) {
  const auto bound = std::lower_bound(bounds_ns_.begin(), bounds_ns_.end(), ns);
  buckets_[static_cast<size_t>(bound - bounds_ns_.begin())].fetch_add(1, std::memory_order_relaxed);
  sum_ns_.fetch_add(ns, std::memory_order_relaxed);
}

void Histogram::Write(Counts::Histogram& histogram) const {
  for (const auto& bucket : buckets_) histogram.add_buckets(bucket.load(std::memory_order_relaxed));
  histogram.set_sum(Seconds(sum_ns_.load(std::memory_order_relaxed)));
}

VersionCounts::VersionCounts(size_t outcomes, const std::vector<double>& bounds)
    : outcomes_(outcomes), ok_(bounds), error_(bounds), queue_(bounds) {}

void VersionCounts::Ended(size_t outcome, int64_t ns) {
  outcomes_[outcome].fetch_add(1, std::memory_order_relaxed);
  (outcome == 0 ? ok_ : error_).Observe(ns);
  if (outcome == 0) last_ok_ns_.store(TimeOfDayNs(), std::memory_order_relaxed);
}

void VersionCounts::Write(Counts::OfVersion& counts) const {
  for (const auto& outcome : outcomes_) counts.add_outcomes(outcome.load(std::memory_order_relaxed));
  ok_.Write(*counts.mutable_ok_seconds());
  error_.Write(*counts.mutable_error_seconds());
  queue_.Write(*counts.mutable_queue_seconds());
  counts.set_last_ok_at(Seconds(last_ok_ns_.load(std::memory_order_relaxed)));
}

AllCounts::AllCounts(std::vector<std::string> outcomes, std::vector<double> bounds)
    : outcomes_(std::move(outcomes)), bounds_(std::move(bounds)), not_served_(outcomes_.size()) {
  if (outcomes_.empty() || outcomes_[0] != "ok") throw std::invalid_argument("the first outcome is not 'ok'");
}

std::shared_ptr<VersionCounts> AllCounts::OfVersion(const std::string& model, const std::string& version) {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& counts = versions_[{model, version}];
  if (!counts) counts = std::make_shared<VersionCounts>(outcomes_.size(), bounds_);
  return counts;
}

void AllCounts::Forget(const std::string& model, const std::string& version) {
  const std::lock_guard<std::mutex> lock(mutex_);
  versions_.erase({model, version});
}

size_t AllCounts::Outcome(const std::string& name) const {
  const auto found = std::find(outcomes_.begin(), outcomes_.end(), name);
  if (found == outcomes_.end()) throw std::invalid_argument("no outcome is called '" + name + "'");
  return static_cast<size_t>(found - outcomes_.begin());
}

Counts AllCounts::Read() const {
  Counts counts;
  for (const auto& outcome : not_served_) counts.add_not_served(outcome.load(std::memory_order_relaxed));
  const std::lock_guard<std::mutex> lock(mutex_);
  for (const auto& [key, version] : versions_) {
    auto& written = *counts.add_versions();
    written.set_model(key.first);
    written.set_version(key.second);
    version->Write(written);
  }
  return counts;
}

}  // namespace lstm_front
