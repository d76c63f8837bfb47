// Threads that help a call with its lanes.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace lstm_native {

class Pool {
 public:
  ~Pool();

  // Call work(0) ... work(count - 1), each once, on the calling thread and on up to `helpers` others, and wait for all.
  // Threads are made on first need; where the system refuses one, the others do its part. `work` must not throw.
  void run(int count, int helpers, const std::function<void(int)>& work);

 private:
  struct Job;
  void loop();
  void grow(int helpers);
  static void help(Job& job, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Job>> jobs_;
  std::vector<std::thread> threads_;
  bool ending_ = false;
};

}  // namespace lstm_native
