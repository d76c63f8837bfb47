// The port: accepts connections, up to a number at a time, and hands each to gRPC.
//
// gRPC 1.51 takes any number. It shuts a connection's socket down when it is done with it, which a second descriptor of the
// same socket shows; so who is still there is known without asking gRPC.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace lstm_front {

class Listener {
 public:
  // Binds every address of the host. Throws std::system_error, or std::runtime_error for a name that has no address.
  Listener(const std::string& host, int port, int64_t max_connections);
  ~Listener();

  int port() const { return port_; }
  // Accepts from now on; `take` gets the listening and the new descriptor, and owns the latter.
  void Start(std::function<void(int listener, int connection)> take);
  // Accepts no more.
  void Close();

 private:
  void Bind(const std::string& host, int port);
  void Run();
  void Accept(int listener);
  void Watch(int connection);

  const int64_t max_connections_;
  int port_ = 0;
  int poll_ = -1, wake_ = -1;
  std::vector<int> listeners_;
  int64_t open_ = 0;
  std::function<void(int, int)> take_;
  std::atomic<bool> closing_{false};
  std::thread thread_;
};

}  // namespace lstm_front
