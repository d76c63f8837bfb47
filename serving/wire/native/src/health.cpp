#include "health.h"

namespace lstm_front {

// Watchers are told under the lock, so that the newest status is what each is told last.
void Health::Set(const std::string& service, int32_t status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  statuses_[service] = status;
  for (const auto& [watcher, watched] : watches_) {
    if (watched == service) watcher->Tell(status);
  }
}

int32_t Health::Status(const std::string& service) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = statuses_.find(service);
  return found == statuses_.end() ? -1 : found->second;
}

bool Health::Enter() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entered_ >= max_watches_) return false;
  ++entered_;
  return true;
}

void Health::Join(const std::shared_ptr<Watcher>& watcher, const std::string& service) {
  const std::lock_guard<std::mutex> lock(mutex_);
  watches_.emplace(watcher, service);
  const auto found = statuses_.find(service);
  watcher->Tell(found == statuses_.end() ? kServiceUnknown : found->second);
  if (closed_) watcher->End();
}

void Health::Leave(const std::shared_ptr<Watcher>& watcher) {
  const std::lock_guard<std::mutex> lock(mutex_);
  watches_.erase(watcher);
  --entered_;
}

void Health::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
  for (const auto& [watcher, watched] : watches_) watcher->End();
}

}  // namespace lstm_front
