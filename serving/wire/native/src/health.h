// How services are (grpc.health.v1): asked by probes, watched by clients that choose among replicas. Nothing here waits.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

namespace lstm_front {

class Watcher {
 public:
  virtual ~Watcher() = default;
  virtual void Tell(int32_t status) = 0;
  virtual void End() = 0;
};

class Health {
 public:
  explicit Health(int64_t max_watches) : max_watches_(max_watches) {}

  void Set(const std::string& service, int32_t status);
  // How a service is; -1 if it is none of this server's.
  int32_t Status(const std::string& service) const;
  // Takes a place for a watch; false if there is none.
  bool Enter();
  // Tells a watch how its service is, from now on.
  void Join(const std::shared_ptr<Watcher>& watcher, const std::string& service);
  void Leave(const std::shared_ptr<Watcher>& watcher);
  // Ends all watches, and those that come.
  void Close();

 private:
  static constexpr int32_t kServiceUnknown = 3;

  const int64_t max_watches_;
  mutable std::mutex mutex_;
  std::map<std::string, int32_t> statuses_;
  std::unordered_map<std::shared_ptr<Watcher>, std::string> watches_;
  int64_t entered_ = 0;
  bool closed_ = false;
};

}  // namespace lstm_front
