// Runs the front's parts by several threads where a sanitizer can watch, and counts what they leave behind.
// Usage: program stress ROUNDS    (everything, with requests that are cancelled, failed and referred)
//        program count REQUESTS   (requests that are answered; prints resident KiB at a tenth of them and at the end)
#include <cstring>
#include <fstream>

#include "bridge.h"
#include "health.h"
#include "load.h"
#include "unread.h"

namespace {

using namespace lstm_front;

constexpr int kThreads = 4;

template <class Work>
void Together(const Work& work) {
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) threads.emplace_back([&work, thread] { work(thread); });
  for (std::thread& thread : threads) thread.join();
}

class DroppedCall final : public Droppable {
 public:
  void Drop() override { ++drops; }
  std::atomic<int64_t> drops{0};
};

// Answers that are sent or dropped: whatever happens, a call that was dropped was dropped because others had no room.
void StressUnread(int64_t rounds) {
  constexpr int64_t kRoomForCalls = 2, kCallBytes = 17 * 1024;
  Unread unread(kRoomForCalls * kCallBytes);
  std::vector<std::shared_ptr<DroppedCall>> calls;
  for (int call = 0; call < kThreads; ++call) calls.push_back(std::make_shared<DroppedCall>());
  Together([&](int thread) {
    for (int64_t round = 0; round < rounds; ++round) {
      const auto& call = calls[static_cast<size_t>(thread + round) % calls.size()];
      unread.Add(call, 512);
      unread.Sent(*call, 512);
    }
  });
  const auto last = std::make_shared<DroppedCall>();
  const int64_t before = calls[0]->drops;
  unread.Add(calls[0], 512);
  unread.Add(last, 2 * kRoomForCalls * kCallBytes);
  CHECK(calls[0]->drops == before + 1 && last->drops == 0);
  unread.Sent(*last, 2 * kRoomForCalls * kCallBytes);
  const int64_t dropped = calls[0]->drops + calls[1]->drops;
  for (const auto& call : {calls[0], calls[1]}) unread.Add(call, 512);  // what was dropped or sent is counted no more
  CHECK(calls[0]->drops + calls[1]->drops == dropped);
  for (const auto& call : {calls[0], calls[1]}) unread.Sent(*call, 512);
  CHECK(last.use_count() == 1 && calls[0].use_count() == 1);
}

class SilentCall final : public BridgedCall {
 public:
  Opening Describe() override { return {}; }
  void Receive() override {}
  void Send(std::string) override {}
  void Finish(const Ending&, const std::string*) override {}
  bool active() const override { return true; }
};

// Each call is new once, before its message and its end, which come in their order; the bridge keeps none.
void StressBridge(int64_t rounds) {
  Bridge bridge;
  std::map<int64_t, int32_t> told;
  std::thread reader([&] {
    for (Bridge::Event event = bridge.Next(); event.kind != Bridge::kClosed; event = bridge.Next()) {
      CHECK(event.kind == (told[event.call] == 0 ? Bridge::kNew : told[event.call] == 1 ? Bridge::kMessage : Bridge::kEnd));
      if (++told[event.call] != 3) continue;
      CHECK(bridge.Find(event.call) != nullptr);
      bridge.Release(event.call);
      told.erase(event.call);
    }
  });
  Together([&](int) {
    for (int64_t round = 0; round < rounds; ++round) {
      const auto call = std::make_shared<SilentCall>();
      std::thread other;
      if (round % 64 == 0) other = std::thread([&call] { CHECK(call->id >= 0); });  // as who finds it cancelled asks
      if (bridge.Open(call, 8)) {
        bridge.Push({Bridge::kMessage, call->id, "content"});
        bridge.Push({Bridge::kEnd, call->id, {}});
      }
      if (other.joinable()) other.join();
    }
  });
  bridge.Close();
  reader.join();
  CHECK(told.empty() && !bridge.Open(std::make_shared<SilentCall>(), 8));
}

class ToldWatcher final : public Watcher {
 public:
  void Tell(int32_t status) override { last = status; }
  void End() override { ended = true; }
  std::atomic<int32_t> last{-1};
  std::atomic<bool> ended{false};
};

void StressHealth(int64_t rounds) {
  Health health(kThreads + 1);
  const auto lasting = std::make_shared<ToldWatcher>();
  CHECK(health.Enter());
  health.Join(lasting, "service");
  Together([&](int thread) {
    for (int64_t round = 0; round < rounds; ++round) {
      const auto status = static_cast<int32_t>(1 + round % 2);
      health.Set("service", status);
      CHECK(health.Status("service") > 0 && health.Status("none") == -1);
      if (round % 8 != thread) continue;
      const auto watcher = std::make_shared<ToldWatcher>();
      CHECK(health.Enter());
      health.Join(watcher, "service");
      CHECK(watcher->last > 0);
      health.Leave(watcher);
    }
  });
  CHECK(lasting->last == health.Status("service"));
  health.Close();
  CHECK(lasting->ended);
  const auto late = std::make_shared<ToldWatcher>();
  health.Join(late, "service");
  CHECK(late->ended);
}

void StressCounts(int64_t rounds) {
  AllCounts counts({"ok", "failed"}, {0.001, 1.0});
  Together([&](int) {
    for (int64_t round = 0; round < rounds; ++round) {
      const auto version = counts.OfVersion("model", "1");
      version->Ended(static_cast<size_t>(round % 2), round);
      version->Queued(round);
      counts.NotServed(counts.Outcome("failed"));
      counts.OfVersion("other", std::to_string(round % 3));
      counts.Forget("other", std::to_string((round + 1) % 3));
      if (round % 64 == 0) CHECK(counts.Read().not_served_size() == 2);
    }
  });
  const Counts read = counts.Read();
  CHECK(read.not_served(1) == static_cast<uint64_t>(kThreads * rounds));
  for (const auto& version : read.versions()) {
    if (version.model() != "model") continue;
    CHECK(version.outcomes(0) + version.outcomes(1) == static_cast<uint64_t>(kThreads * rounds));
  }
}

int64_t ResidentKib() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmRSS:", 0) == 0) return std::atoll(line.c_str() + std::strlen("VmRSS:"));
  }
  return 0;
}

void CountRequests(int64_t requests) {
  const int64_t of_each = requests / kThreads;
  int64_t at_a_tenth = 0;
  Load(kThreads, false).Run(of_each, [&](int64_t sent) {
    if (at_a_tenth == 0 && sent >= of_each / 10) at_a_tenth = ResidentKib();
  });
  std::printf("%lld requests: %lld KiB at a tenth, %lld KiB at the end\n", static_cast<long long>(of_each * kThreads),
              static_cast<long long>(at_a_tenth), static_cast<long long>(ResidentKib()));
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const int64_t number = std::atoll(arguments[2]);
  if (arguments[1] == std::string("count")) {
    CountRequests(number);
    return 0;
  }
  StressUnread(number);
  StressBridge(number);
  StressHealth(number);
  StressCounts(number);
  Load(kThreads, true).Run(number, [](int64_t) {});
  return 0;
}
