#include "listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <stdexcept>
#include <system_error>

namespace lstm_front {
namespace {

constexpr int kBacklog = 4096;
constexpr int kPauseMs = 100;  // when no descriptor is left: connections wait in the kernel meanwhile

[[noreturn]] void Throw(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

int PortOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) Throw("getsockname");
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

int Open(const addrinfo& address, int port) {
  const int socket = ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket < 0) return -1;
  const int on = 1, off = 0;
  setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_storage bound{};
  std::copy_n(reinterpret_cast<const char*>(address.ai_addr), address.ai_addrlen, reinterpret_cast<char*>(&bound));
  if (address.ai_family == AF_INET6) {
    setsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    reinterpret_cast<sockaddr_in6&>(bound).sin6_port = htons(static_cast<uint16_t>(port));
  } else {
    reinterpret_cast<sockaddr_in&>(bound).sin_port = htons(static_cast<uint16_t>(port));
  }
  if (bind(socket, reinterpret_cast<sockaddr*>(&bound), address.ai_addrlen) == 0 && listen(socket, kBacklog) == 0) {
    return socket;
  }
  const int problem = errno;
  close(socket);
  errno = problem;
  return -1;
}

}  // namespace

Listener::Listener(const std::string& host, int port, int64_t max_connections) : max_connections_(max_connections) {
  Bind(host, port);
  poll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (poll_ < 0 || wake_ < 0) Throw("epoll");
  for (const int listener : listeners_) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = listener;
    if (epoll_ctl(poll_, EPOLL_CTL_ADD, listener, &event) != 0) Throw("epoll_ctl");
  }
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_;
  if (epoll_ctl(poll_, EPOLL_CTL_ADD, wake_, &event) != 0) Throw("epoll_ctl");
}

Listener::~Listener() {
  Close();
  for (const int listener : listeners_) close(listener);
  if (poll_ >= 0) close(poll_);
  if (wake_ >= 0) close(wake_);
}

void Listener::Bind(const std::string& host, int port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int problem = getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (problem != 0) throw std::runtime_error(gai_strerror(problem));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> addresses(found, freeaddrinfo);
  port_ = port;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const int listener = Open(*address, port_);
    if (listener < 0) {
      if (address->ai_next != nullptr || !listeners_.empty()) continue;  // a name of several addresses needs one
      Throw("bind");
    }
    listeners_.push_back(listener);
    port_ = PortOf(listener);
  }
  if (listeners_.empty()) Throw("bind");
}

void Listener::Start(std::function<void(int, int)> take) {
  take_ = std::move(take);
  thread_ = std::thread([this] { Run(); });
}

void Listener::Close() {
  if (!thread_.joinable()) return;
  closing_ = true;
  const uint64_t one = 1;
  if (write(wake_, &one, sizeof(one)) < 0) return;  // it is awake already
  thread_.join();
  for (const int listener : listeners_) close(listener);  // who connects from now on is told at once
  listeners_.clear();
}

void Listener::Run() {
  std::array<epoll_event, 64> events;
  while (!closing_) {
    const int count = epoll_wait(poll_, events.data(), static_cast<int>(events.size()), -1);
    for (int index = 0; index < count && !closing_; ++index) {
      const int descriptor = events[static_cast<size_t>(index)].data.fd;
      if (descriptor == wake_) continue;
      if (std::find(listeners_.begin(), listeners_.end(), descriptor) != listeners_.end()) {
        Accept(descriptor);
      } else {  // a connection that is over
        epoll_ctl(poll_, EPOLL_CTL_DEL, descriptor, nullptr);  // gRPC may still hold the socket, which would keep it there
        close(descriptor);
        --open_;
      }
    }
  }
}

void Listener::Accept(int listener) {
  while (!closing_) {
    const int connection = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) usleep(kPauseMs * 1000);
      return;
    }
    if (open_ >= max_connections_) {
      close(connection);
      continue;
    }
    const int on = 1;
    setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    Watch(connection);
    take_(listener, connection);
  }
}

void Listener::Watch(int connection) {
  const int second = fcntl(connection, F_DUPFD_CLOEXEC, 0);
  if (second < 0) return;  // is not counted
  epoll_event event{};
  event.events = EPOLLHUP | EPOLLERR;
  event.data.fd = second;
  if (epoll_ctl(poll_, EPOLL_CTL_ADD, second, &event) != 0) {
    close(second);
    return;
  }
  ++open_;
}

}  // namespace lstm_front
