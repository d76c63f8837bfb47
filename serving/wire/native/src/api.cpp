#include "api.h"

#include <chrono>
#include <climits>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <system_error>

#include "front.h"

namespace lstm_front {
namespace {

template <class Object>
std::shared_ptr<Object>& Shared(void* handle) {
  return *static_cast<std::shared_ptr<Object>*>(handle);
}

Front& FrontOf(void* handle) { return *static_cast<Front*>(handle); }
Inbox& InboxOf(void* handle) { return *Shared<Inbox>(handle); }
Bridge& BridgeOf(void* front, int32_t which) { return which == 0 ? FrontOf(front).referrals : FrontOf(front).control; }

lstm_front_bytes Copied(const std::string& content) {
  if (content.empty()) return {nullptr, 0};
  char* const data = static_cast<char*>(std::malloc(content.size()));
  if (data == nullptr) return {nullptr, 0};
  std::memcpy(data, content.data(), content.size());
  return {data, content.size()};
}

template <class Message>
Message Parsed(const char* content, size_t size) {
  Message message;
  if (size > INT_MAX) throw std::invalid_argument("no message is so large");
  if (!message.ParseFromArray(content, static_cast<int>(size))) throw std::invalid_argument("not a message");
  return message;
}

// What meets an exception is left as it is: what Python asks for next shows it.
template <class Function>
auto Guarded(const Function& function) noexcept -> decltype(function()) {
  using Result = decltype(function());
  try {
    return function();
  } catch (const std::exception&) {
    if constexpr (!std::is_void_v<Result>) return Result{};
  }
}

// Keeps an answer for who asks for it.
class Recorder final : public Asker {
 public:
  void Answer(Request::Answer answer) override { Keep({answer.content.get(), answer.size}); }
  void Fail(const Ending& ending) override { Keep(ending.message()); }
  void Refer(std::string message, bool) override { Keep(std::move(message)); }
  void Read(const inference::ModelInferRequest&) override {}
  bool of_stream() const override { return false; }
  std::string RequestId() override { return ""; }
  // Waits for it, for so long at most.
  std::string Wait(std::chrono::seconds most) {
    std::unique_lock<std::mutex> lock(mutex_);
    ended_.wait_for(lock, most, [this] { return answer_.has_value(); });
    return answer_.value_or("");
  }

 private:
  void Keep(std::string answer) {
    const std::lock_guard<std::mutex> lock(mutex_);
    answer_ = std::move(answer);
    ended_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable ended_;
  std::optional<std::string> answer_;
};

}  // namespace
}  // namespace lstm_front

using namespace lstm_front;

void lstm_front_free(char* bytes) { std::free(bytes); }

void* lstm_front_slots_open(int64_t count, int64_t per_client) {
  return Guarded([&]() -> void* { return new std::shared_ptr<Slots>(std::make_shared<Slots>(count, per_client)); });
}

void lstm_front_slots_close(void* slots) { delete &Shared<Slots>(slots); }

int32_t lstm_front_slots_take(void* slots, const char* client) {
  int32_t taken = Slots::kFull;  // also where an exception has kept it from being taken
  Guarded([&] { taken = Shared<Slots>(slots)->Take(client); });
  return taken;
}

void lstm_front_slots_give_back(void* slots, const char* client) {
  Guarded([&] { Shared<Slots>(slots)->GiveBack(client); });
}

void lstm_front_slots_wait_empty(void* slots, double seconds) {
  Guarded([&] { Shared<Slots>(slots)->WaitEmpty(seconds); });
}

void* lstm_front_open(const char* settings, size_t size, void* slots, lstm_front_certificates certificates,
                      char* message, size_t message_size) {
  try {
    const auto source = [certificates](Certificates& present) {
      lstm_front_bytes written{nullptr, 0};
      if (certificates(&written) == 0) return false;
      const bool read = present.ParseFromArray(written.data, static_cast<int>(written.size));
      return read;
    };
    return new Front(Parsed<Settings>(settings, size), Shared<Slots>(slots), source);
  } catch (const std::system_error& error) {
    std::strncpy(message, error.code().message().c_str(), message_size - 1);
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), message_size - 1);
  }
  return nullptr;
}

void lstm_front_close(void* front) { delete &FrontOf(front); }

int32_t lstm_front_port(void* front) { return FrontOf(front).port(); }

void lstm_front_start(void* front) {
  Guarded([&] { FrontOf(front).Start(); });
}

void lstm_front_drain(void* front) {
  Guarded([&] { FrontOf(front).Drain(); });
}

void lstm_front_stop(void* front, double seconds) {
  Guarded([&] { FrontOf(front).Stop(seconds); });
}

void lstm_front_set_health(void* front, const char* service, int32_t status) {
  Guarded([&] { FrontOf(front).health.Set(service, status); });
}

void lstm_front_end_watches(void* front) {
  Guarded([&] { FrontOf(front).health.Close(); });
}

void lstm_front_set_tokens(void* front, const char* tokens, size_t size) {
  Guarded([&] { FrontOf(front).tokens.Set(Parsed<Tokens>(tokens, size)); });
}

lstm_front_bytes lstm_front_counts(void* front) {
  return Guarded([&] { return Copied(FrontOf(front).counts.Read().SerializeAsString()); });
}

void lstm_front_forget(void* front, const char* model, const char* version) {
  Guarded([&] { FrontOf(front).counts.Forget(model, version); });
}

void* lstm_front_inbox_open(void* front, const char* version, size_t size) {
  return Guarded([&]() -> void* {
    return new std::shared_ptr<Inbox>(FrontOf(front).AddVersion(Parsed<Version>(version, size)));
  });
}

void lstm_front_inbox_close(void* inbox) { delete &Shared<Inbox>(inbox); }

void lstm_front_set_routes(void* front, size_t count, const char* const* models, const char* const* versions,
                           void* const* inboxes) {
  Guarded([&] {
    Front::Routes routes;
    for (size_t index = 0; index < count; ++index) {
      routes[{models[index], versions[index]}] = Shared<Inbox>(inboxes[index]);
    }
    FrontOf(front).SetRoutes(std::move(routes));
  });
}

void lstm_front_inbox_shut(void* inbox) {
  Guarded([&] { InboxOf(inbox).Close(); });
}

void lstm_front_take(void* inbox, int64_t first_id, lstm_front_arrivals* arrivals) {
  arrivals->count = arrivals->cancelled_count = 0;
  Guarded([&] {
    Inbox::Arrivals taken{arrivals->capacity,  arrivals->lengths_capacity, arrivals->cancelled_capacity,
                          arrivals->rows,      arrivals->lengths,          arrivals->queued_ns,
                          arrivals->deadline_ns, arrivals->priority,       arrivals->cancelled,
                          0,                   0};
    InboxOf(inbox).Take(first_id, taken);
    arrivals->count = taken.count;
    arrivals->cancelled_count = taken.cancelled_count;
  });
}

void lstm_front_wait_idle(void* inbox) {
  Guarded([&] { InboxOf(inbox).WaitIdle(); });
}

void lstm_front_rouse(void* inbox) {
  Guarded([&] { InboxOf(inbox).Rouse(); });
}

void lstm_front_wait_overdue(void* inbox, int64_t ns) {
  Guarded([&] { InboxOf(inbox).WaitOverdue(ns); });
}

void lstm_front_wake(void* inbox) {
  Guarded([&] { InboxOf(inbox).Wake(); });
}

int32_t lstm_front_gather(void* inbox, const int64_t* spans, const int64_t* positions, size_t count, int64_t steps,
                          char* const* inputs, float* states) {
  return Guarded([&]() -> int32_t {
    InboxOf(inbox).Gather({spans, positions, count}, {steps, inputs, states});
    return 1;
  });
}

int32_t lstm_front_scatter(void* inbox, const int64_t* spans, const int64_t* positions, size_t count, int64_t steps,
                           const char* const* outputs, const float* states) {
  return Guarded([&]() -> int32_t {
    InboxOf(inbox).Scatter({spans, positions, count}, {steps, outputs, states});
    return 1;
  });
}

void lstm_front_answer(void* front, void* inbox, const int64_t* ids, size_t count) {
  Guarded([&] { FrontOf(front).Answer(Shared<Inbox>(inbox), ids, count); });
}

void lstm_front_fail(void* front, void* inbox, int64_t id, const char* reason, const char* ending, size_t size) {
  Guarded([&] { InboxOf(inbox).Fail(id, Parsed<Ending>(ending, size), FrontOf(front).counts.Outcome(reason)); });
}

void lstm_front_hold_off(void* front, void* inbox, int64_t steps, int64_t deadline_ns, int64_t done_ns,
                         const char* reason, const char* ending, size_t size) {
  Guarded([&] {
    InboxOf(inbox).Set(std::make_shared<const HoldOff>(HoldOff{
        steps, deadline_ns, done_ns, Parsed<Ending>(ending, size), FrontOf(front).counts.Outcome(reason)}));
  });
}

void lstm_front_resume(void* inbox) {
  Guarded([&] { InboxOf(inbox).Set(nullptr); });
}

void lstm_front_refer(void* inbox, int64_t id) {
  Guarded([&] { InboxOf(inbox).Refer(id); });
}

lstm_front_bytes lstm_front_request_id(void* inbox, int64_t id) {
  return Guarded([&] { return Copied(InboxOf(inbox).RequestId(id)); });
}

lstm_front_event lstm_front_next(void* front, int32_t which) {
  return Guarded([&]() -> lstm_front_event {
    const Bridge::Event event = BridgeOf(front, which).Next();
    return {event.kind, event.call, Copied(event.content)};
  });
}

namespace lstm_front {
namespace {

template <class Function>
void OnCall(void* front, int32_t which, int64_t id, const Function& function) {
  Guarded([&] {
    const std::shared_ptr<BridgedCall> call = BridgeOf(front, which).Find(id);
    if (call) function(*call);
  });
}

}  // namespace
}  // namespace lstm_front

lstm_front_bytes lstm_front_call_describe(void* front, int32_t which, int64_t call) {
  lstm_front_bytes description{nullptr, 0};
  OnCall(front, which, call,
         [&](BridgedCall& found) { description = Copied(found.Describe().SerializeAsString()); });
  return description;
}

void lstm_front_call_receive(void* front, int32_t which, int64_t call) {
  OnCall(front, which, call, [](BridgedCall& found) { found.Receive(); });
}

void lstm_front_call_send(void* front, int32_t which, int64_t call, const char* content, size_t size) {
  OnCall(front, which, call, [&](BridgedCall& found) { found.Send(std::string(content, size)); });
}

void lstm_front_call_finish(void* front, int32_t which, int64_t call, const char* ending, size_t ending_size,
                            const char* content, size_t size) {
  OnCall(front, which, call, [&](BridgedCall& found) {
    const auto last = content == nullptr ? std::string() : std::string(content, size);
    found.Finish(Parsed<Ending>(ending, ending_size), content == nullptr ? nullptr : &last);
  });
}

int32_t lstm_front_call_active(void* front, int32_t which, int64_t call) {
  int32_t active = 0;
  OnCall(front, which, call, [&](const BridgedCall& found) { active = found.active(); });
  return active;
}

void lstm_front_call_release(void* front, int32_t which, int64_t call) {
  Guarded([&] { BridgeOf(front, which).Release(call); });
}

void* lstm_front_offer(void* inbox, const char* message, size_t size, int64_t deadline_ns, int64_t now_ns) {
  return Guarded([&]() -> void* {
    auto parsed = std::make_unique<inference::ModelInferRequest>();
    if (!parsed->ParseFromArray(message, static_cast<int>(size))) return nullptr;
    auto entry = std::make_shared<Entry>();
    entry->request = Request::Decode(InboxOf(inbox).signature(), std::move(parsed), deadline_ns, now_ns);
    if (!entry->request) return nullptr;
    const auto recorder = std::make_shared<Recorder>();
    entry->asker = recorder;
    if (!InboxOf(inbox).Put(std::move(entry))) return nullptr;
    return new std::shared_ptr<Recorder>(recorder);
  });
}

lstm_front_bytes lstm_front_collect(void* offered) {
  const std::unique_ptr<std::shared_ptr<Recorder>> recorder(&Shared<Recorder>(offered));
  return Guarded([&] { return Copied((*recorder)->Wait(std::chrono::seconds(60))); });
}
