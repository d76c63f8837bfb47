#include "pool.h"

#include <system_error>

namespace lstm_native {

struct Pool::Job {
  const std::function<void(int)>* work;
  int count;
  int next = 0;
  int unfinished;
  std::condition_variable finished;
};

Pool::~Pool() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void Pool::run(int count, int helpers, const std::function<void(int)>& work) {
  if (count == 1 || helpers == 0) {
    for (int i = 0; i < count; ++i) work(i);
    return;
  }
  auto job = std::make_shared<Job>();
  job->work = &work;
  job->count = job->unfinished = count;
  std::unique_lock<std::mutex> lock(mutex_);
  grow(helpers);
  jobs_.push_back(job);
  wake_.notify_all();
  help(*job, lock);
  job->finished.wait(lock, [&] { return job->unfinished == 0; });
}

// Take shares of a job until none is left. The lock is held on entry and on return, and not while working.
void Pool::help(Job& job, std::unique_lock<std::mutex>& lock) {
  while (job.next < job.count) {
    const int share = job.next++;
    lock.unlock();
    (*job.work)(share);
    lock.lock();
    if (--job.unfinished == 0) job.finished.notify_all();
  }
}

void Pool::loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    while (!jobs_.empty() && jobs_.front()->next == jobs_.front()->count) jobs_.pop_front();
    if (!jobs_.empty()) {
      const std::shared_ptr<Job> job = jobs_.front();
      help(*job, lock);
    } else if (ending_) {
      return;
    } else {
      wake_.wait(lock);
    }
  }
}

void Pool::grow(int helpers) {
  try {
    while (static_cast<int>(threads_.size()) < helpers) threads_.emplace_back(&Pool::loop, this);
  } catch (const std::system_error&) {
    // No more threads to be had: the caller and those that are there do the work.
  }
}

}  // namespace lstm_native
