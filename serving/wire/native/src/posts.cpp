#include "posts.h"

#include <exception>

namespace lstm_front {

bool Posts::Post(Work work) {
  const std::shared_lock<std::shared_mutex> stays(opening_);
  if (!open_) return false;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    posted_.push_back(std::move(work));
    if (told_) return true;
    told_ = true;
  }
  alarm_.Set(&queue_, gpr_inf_past(GPR_CLOCK_MONOTONIC), this);  // without the lock, which who wakes would wait for
  return true;
}

void Posts::Open() {
  const std::lock_guard<std::shared_mutex> lock(opening_);
  open_ = true;
}

void Posts::Close() {
  const std::lock_guard<std::shared_mutex> lock(opening_);
  open_ = false;
}

void Posts::Done(bool) noexcept {
  std::vector<Work> posted;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    told_ = false;
    posted.swap(posted_);
  }
  for (const Work& work : posted) {
    try {
      work();
    } catch (const std::exception&) {  // the others' work is not to wait for it
    }
  }
}

}  // namespace lstm_front
