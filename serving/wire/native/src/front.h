// The front: a gRPC server that reads, checks and answers requests for inference itself, and hands all else to Python.
#pragma once

#include <google/protobuf/stubs/logging.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>

#include "bridge.h"
#include "call.h"
#include "counts.h"
#include "credentials.h"
#include "health.h"
#include "inbox.h"
#include "listener.h"
#include "lag.h"
#include "posts.h"
#include "slots.h"
#include "tokens.h"
#include "unread.h"

namespace lstm_front {

class StreamCall;

constexpr char kInferPath[] = "/inference.GRPCInferenceService/ModelInfer";
constexpr char kStreamPath[] = "/inference.GRPCInferenceService/ModelStreamInfer";

using Stream = grpc::ServerAsyncReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

// The two methods that infer, as bytes, and both as streams: gRPC reads the message of a unary call before anybody can
// say that it is not wanted.
class InferenceService final : public grpc::Service {
 public:
  InferenceService();

  enum Method { kInfer, kStreamInfer };
  void Request(Method method, grpc::ServerContext& context, Stream& stream, grpc::ServerCompletionQueue& queue,
               void* tag) {
    RequestAsyncBidiStreaming(method, &context, &stream, &queue, &queue, tag);
  }
};

// A request as its call has brought it, before anything is known of it.
struct Arrival {
  const grpc::ServerContext& context;
  std::string content;
  int64_t deadline_ns;
};

class Front {
 public:
  // Binds the port. Throws what `Listener` throws, and std::runtime_error if gRPC does not start.
  Front(Settings settings, std::shared_ptr<Slots> slots, CertificateSource certificates);
  ~Front();

  int port() const { return listener_.port(); }
  void Start();
  // Refuses requests that come from now on, and reads no more of streams.
  void Drain();
  // Takes no more connections and calls, ends those that are open after the seconds, and waits until all have.
  void Stop(double seconds);

  std::shared_ptr<Inbox> AddVersion(const Version& version);
  // Which inbox serves a model and version; version "" is that of requests that name none.
  using Routes = std::map<std::pair<std::string, std::string>, std::shared_ptr<Inbox>>;
  void SetRoutes(Routes routes);

  struct Taken {
    std::shared_ptr<Entry> entry;  // none if Python has it, or if it was refused
    std::shared_ptr<Inbox> inbox;
  };
  // Has an inbox take the request, or Python; refuses it if there is no room.
  Taken Take(const std::shared_ptr<Asker>& asker, Arrival& arrival);
  // Nobody waits for the request any more.
  void Cancel(const Taken& taken);
  // Has Python take what a call has brought; `refuse` is called if that has too much to do.
  void Refer(const std::shared_ptr<BridgedCall>& call, const std::function<void(const Ending&)>& refuse);

  // Sends answers of an inbox that have been computed.
  void Answer(const std::shared_ptr<Inbox>& inbox, const int64_t* ids, size_t count);

  // How a request ends that an exception has met.
  Ending Fault(const std::exception& error);

  bool Knows(const grpc::ServerContext& context, std::shared_ptr<const Client>& client) const;
  // Of the thread, and to be used on it only.
  Lag lag;
  // How a call ends that has waited for too long already; counts it.
  Ending Behind();

  bool draining() const { return draining_; }
  bool closed() const { return closed_; }
  void NotServed(const Refusal& refusal) { counts.NotServed(counts.Outcome(refusal.reason())); }
  bool TakeStreamSlot();
  void Opened(const std::shared_ptr<StreamCall>& stream);
  void Over(const std::shared_ptr<StreamCall>& stream);

  // A call exists from its acceptance until it is freed; `Stop` waits for all.
  void Count(int change);

  const Settings settings;
  AllCounts counts;
  TokenTable tokens;
  Unread unread;
  Bridge referrals, control;
  Health health;
  const std::shared_ptr<Slots> slots;
  InferenceService service;
  grpc::AsyncGenericService others;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;

 private:
  // protobuf would write a line to stderr for a message that is none, which any client could have it do.
  const google::protobuf::LogSilencer silencer_;

  void Run();
  std::shared_ptr<Inbox> Route(const std::string& model, const std::string& version) const;

  Listener listener_;
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> acceptor_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<Posts> posts_;
  std::thread thread_;
  std::atomic<bool> draining_{false}, closed_{false};
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<const Routes> routes_;
  std::unordered_set<std::shared_ptr<StreamCall>> streams_;
  int64_t stream_count_ = 0;
  int64_t calls_ = 0;
};

}  // namespace lstm_front
