#include "front.h"

#include <chrono>
#include <random>
#include <stdexcept>

#include "generic.h"
#include "inflation.h"
#include "monotonic.h"
#include "stream.h"
#include "unary.h"

namespace lstm_front {
namespace {

constexpr int kAcceptingRequests = 128;  // calls that gRPC may have begun while the thread is busy; more wait inside it
constexpr int kAcceptingStreams = 32, kAcceptingOthers = 32;
constexpr std::chrono::seconds kLastEnds{10};  // for calls that were cancelled to be ended by whoever has them
constexpr char kAuthorization[] = "authorization", kTraceParent[] = "traceparent";

bool Drawn(double share) {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  return std::uniform_real_distribution<double>()(random) < share;
}

}  // namespace

InferenceService::InferenceService() {
  for (const char* path : {kInferPath, kStreamPath}) {
    AddMethod(new grpc::internal::RpcServiceMethod(path, grpc::internal::RpcMethod::BIDI_STREAMING, nullptr));
  }
  MarkMethodRaw(kInfer);
  MarkMethodRaw(kStreamInfer);
}

Front::Front(Settings given, std::shared_ptr<Slots> request_slots, CertificateSource certificates)
    : settings(std::move(given)),
      counts({settings.outcomes().begin(), settings.outcomes().end()},
             {settings.seconds_buckets().begin(), settings.seconds_buckets().end()}),
      unread(settings.max_unread_bytes()),
      health(settings.max_watches()),
      slots(std::move(request_slots)),
      listener_(settings.host(), settings.port(), settings.max_connections()),
      routes_(std::make_shared<const Routes>()) {
  grpc::ServerBuilder builder;
  for (const auto& [name, value] : settings.channel_arguments()) builder.AddChannelArgument(name, static_cast<int>(value));
  const std::shared_ptr<grpc::ServerCredentials> credentials =
      settings.encrypted() ? TlsCredentials(std::move(certificates),
                                            {settings.certificate_files().begin(), settings.certificate_files().end()},
                                            settings.asks_client_certificate())
                           : grpc::InsecureServerCredentials();
  acceptor_ = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&service);
  builder.RegisterAsyncGenericService(&others);
  queue = builder.AddCompletionQueue();
  posts_.emplace(*queue);
  server_ = builder.BuildAndStart();
  if (!server_) throw std::runtime_error("gRPC does not start with these settings");
}

Front::~Front() {
  if (!closed_) Stop(0);
}

void Front::Start() {
  for (int call = 0; call < kAcceptingRequests; ++call) UnaryCall::Accept(*this);
  for (int call = 0; call < kAcceptingStreams; ++call) StreamCall::Accept(*this);
  for (int call = 0; call < kAcceptingOthers; ++call) GenericCall::Accept(*this);
  thread_ = std::thread([this] { Run(); });
  posts_->Open();
  listener_.Start([this](int listener, int connection) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters parameters;
    parameters.listener_fd = listener;
    parameters.fd = connection;
    acceptor_->HandleNewConnection(&parameters);
  });
}

void Front::Run() {
  void* tag;
  bool ok;
  while (true) {
    if (lag.matters()) {  // what has to be waited for shows that the thread has caught up
      const auto status = queue->AsyncNext(&tag, &ok, gpr_time_0(GPR_CLOCK_MONOTONIC));
      if (status == grpc::CompletionQueue::SHUTDOWN) return;
      if (status == grpc::CompletionQueue::GOT_EVENT) {
        static_cast<Tag*>(tag)->Done(ok);
        continue;
      }
      lag.CaughtUp();
    }
    if (!queue->Next(&tag, &ok)) return;
    static_cast<Tag*>(tag)->Done(ok);
  }
}

void Front::Drain() {
  std::unordered_set<std::shared_ptr<StreamCall>> streams;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    draining_ = true;
    streams = streams_;
  }
  for (const auto& stream : streams) stream->Drain();
}

void Front::Stop(double seconds) {
  listener_.Close();
  closed_ = true;
  server_->Shutdown(std::chrono::system_clock::now() +
                    std::chrono::duration_cast<std::chrono::system_clock::duration>(std::chrono::duration<double>(seconds)));
  {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait_for(lock, kLastEnds, [this] { return calls_ == 0; });
  }
  posts_->Close();
  queue->Shutdown();
  if (thread_.joinable()) {
    thread_.join();
  } else {
    Run();
  }
  referrals.Close();
  control.Close();
}

std::shared_ptr<Inbox> Front::AddVersion(const Version& version) {
  return std::make_shared<Inbox>(std::make_shared<const Signature>(version),
                                 counts.OfVersion(version.model(), version.version()),
                                 EndingOf(settings.no_memory()), counts.Outcome(settings.no_memory().reason()));
}

void Front::SetRoutes(Routes routes) {
  auto present = std::make_shared<const Routes>(std::move(routes));
  const std::lock_guard<std::mutex> lock(mutex_);
  routes_.swap(present);
}

std::shared_ptr<Inbox> Front::Route(const std::string& model, const std::string& version) const {
  std::shared_ptr<const Routes> routes;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    routes = routes_;
  }
  const auto found = routes->find({model, version});
  return found == routes->end() ? nullptr : found->second;
}

Ending Front::Fault(const std::exception& error) {
  const bool no_memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
  const Refusal& refusal = no_memory ? settings.no_memory() : settings.fault();
  NotServed(refusal);
  return EndingOf(refusal);
}

Ending Front::Behind() {
  NotServed(settings.behind());
  return AfterNs(EndingOf(settings.behind()), lag.ns());
}

bool Front::Knows(const grpc::ServerContext& context, std::shared_ptr<const Client>& client) const {
  if (!tokens.asks()) return true;
  client = tokens.Find(ValueOf(context, kAuthorization));
  return client != nullptr;
}

Front::Taken Front::Take(const std::shared_ptr<Asker>& asker, Arrival& arrival) {
  std::shared_ptr<const Client> client;
  auto message = std::make_unique<inference::ModelInferRequest>();
  std::shared_ptr<Inbox> inbox;
  std::optional<std::string> inflated;
  const bool compressed = LooksCompressed(arrival.content);
  if (compressed) inflated = Inflated(arrival.content, static_cast<size_t>(settings.max_message_bytes()));
  if (compressed ? inflated && message->ParseFromString(*inflated) : message->ParseFromString(arrival.content)) {
    asker->Read(*message);
    const bool ours = !settings.refers_all() && !(settings.traces() && Has(arrival.context, kTraceParent)) &&
                      Knows(arrival.context, client) && (!client || client->may_use(message->model_name()));
    if (ours) inbox = Route(message->model_name(), message->model_version());
  }
  const bool chosen = inbox && settings.traces() && Drawn(settings.sample_ratio());
  if (!inbox || chosen) {
    asker->Refer(std::move(arrival.content), chosen);
    return {};
  }
  const std::string owner = !slots->limits_clients() ? std::string()
                            : client                 ? client->name
                                                     : AddressOf(arrival.context);
  const Slots::Taken taken = slots->Take(owner);
  if (taken == Slots::kFull) {
    inbox->counts().Ended(counts.Outcome(settings.requests_full().reason()), 0);
    asker->Fail(EndingOf(settings.requests_full()));
    return {};
  }
  if (taken == Slots::kClientFull) {
    asker->Refer(std::move(arrival.content), false);
    return {};
  }
  auto entry = std::make_shared<Entry>();
  entry->place = std::make_unique<Place>(slots, owner);
  entry->request = Request::Decode(inbox->signature(), std::move(message), arrival.deadline_ns, MonotonicNs());
  if (!entry->request) {
    entry->place.reset();
    asker->Refer(std::move(arrival.content), false);
    return {};
  }
  entry->asker = asker;
  if (!inbox->Put(entry)) {  // the version leaves; Python knows what serves in its place
    entry->place.reset();
    entry->asker.reset();
    asker->Refer(std::move(arrival.content), false);
    return {};
  }
  return {std::move(entry), std::move(inbox)};
}

void Front::Answer(const std::shared_ptr<Inbox>& inbox, const int64_t* ids, size_t count) {
  bool posted = false;
  try {
    posted = posts_->Post([inbox, numbers = std::vector<int64_t>(ids, ids + count)] {
      inbox->Answer(numbers.data(), numbers.size());
    });
  } catch (const std::bad_alloc&) {
  }
  if (!posted) inbox->Answer(ids, count);
}

void Front::Cancel(const Taken& taken) {
  const std::shared_ptr<Asker> asker = taken.inbox->Cancel(taken.entry);
  if (!asker) return;
  taken.inbox->counts().Ended(counts.Outcome("cancelled"), MonotonicNs() - taken.entry->request->began_ns());
  Ending left;
  left.set_code(grpc::StatusCode::CANCELLED);
  asker->Fail(left);
}

void Front::Refer(const std::shared_ptr<BridgedCall>& call, const std::function<void(const Ending&)>& refuse) {
  if (referrals.Open(call, static_cast<size_t>(settings.max_referrals()))) return;
  NotServed(settings.referrals_full());
  refuse(EndingOf(settings.referrals_full()));
}

bool Front::TakeStreamSlot() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (stream_count_ >= settings.max_streams()) return false;
  ++stream_count_;
  return true;
}

void Front::Opened(const std::shared_ptr<StreamCall>& stream) {
  bool draining;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    streams_.insert(stream);
    draining = draining_;
  }
  if (draining) stream->Drain();
}

void Front::Over(const std::shared_ptr<StreamCall>& stream) {
  const std::lock_guard<std::mutex> lock(mutex_);
  streams_.erase(stream);
  --stream_count_;
}

void Front::Count(int change) {
  const std::lock_guard<std::mutex> lock(mutex_);
  calls_ += change;
  if (calls_ == 0) changed_.notify_all();
}

}  // namespace lstm_front
