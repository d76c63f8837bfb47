// Requests on their way through an inbox: clients that decode and put them, a runner that takes them, engines that run
// their rows in chunks. Each must end exactly once, and an answer must be its own.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <random>
#include <string>
#include <thread>

#include "batches.h"
#include "check.h"
#include "inbox.h"
#include "monotonic.h"

namespace lstm_front {

constexpr size_t kFeatures = 2, kStateFloats = 2;
constexpr int64_t kMostRows = 3, kMostSteps = 8;
constexpr size_t kOk = 0, kFailed = 1, kOutcomes = 2;

// A stepwise model: `steps` repeats the input, `last` is its last step, the state counts steps.
inline Version LoadedVersion() {
  Version version;
  version.set_model("loaded");
  version.set_version("1");
  version.set_lengths_input("lengths");
  version.set_max_rows(kMostRows);
  version.set_max_steps(kMostSteps);
  auto& x = *version.add_inputs();
  x.set_name("x");
  x.set_datatype("FP32");
  x.set_follows_time(true);
  x.add_tail(kFeatures);
  for (const char* name : {"steps", "last", "state"}) {
    auto& output = *version.add_outputs();
    output.set_name(name);
    output.set_datatype("FP32");
    output.set_follows_time(name == std::string("steps"));
    output.add_tail(kFeatures);
    output.set_source(version.outputs_size() - 1);
  }
  auto& token = *version.mutable_outputs(2);
  token.set_kind(Version::Output::STATE);
  token.set_datatype("UINT8");
  auto& state = *version.mutable_state();
  state.set_name("state");
  state.set_floats(kStateFloats);
  state.set_identity("sixteen bytes...");
  return version;
}

// What one client has sent, and when that has ended.
class Burst {
 public:
  void Sent() {
    const std::lock_guard<std::mutex> lock(mutex_);
    ++open_;
  }
  void Ended() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (--open_ == 0) over_.notify_all();
  }
  void WaitOver() {
    std::unique_lock<std::mutex> lock(mutex_);
    over_.wait(lock, [this] { return open_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable over_;
  int64_t open_ = 0;
};

// The request of one asker, and the check of how it ends.
class LoadAsker final : public Asker {
 public:
  LoadAsker(Burst& burst, const std::string& id, std::minstd_rand& random)
      : burst_(burst), rows_(1 + random() % kMostRows), time_(1 + random() % kMostSteps), of_stream_(random() % 2) {
    for (size_t row = 0; row < rows_; ++row) lengths_.push_back(1 + static_cast<int64_t>(random()) % time_);
    for (size_t i = 0; i < rows_ * static_cast<size_t>(time_) * kFeatures; ++i) x_.push_back(static_cast<float>(random()));
    message_.set_id(id);
    AddInput("x", "FP32", {static_cast<int64_t>(rows_), time_, kFeatures}, x_.data(), x_.size() * sizeof(float));
    AddInput("lengths", "INT64", {static_cast<int64_t>(rows_)}, lengths_.data(), rows_ * sizeof(int64_t));
  }
  ~LoadAsker() override { CHECK(ends_ == 1); }

  const inference::ModelInferRequest& message() const { return message_; }

  void Answer(Request::Answer answer) override {
    inference::ModelStreamInferResponse streamed;
    auto& response = *streamed.mutable_infer_response();
    auto& parsed = of_stream_ ? static_cast<google::protobuf::Message&>(streamed) : response;
    CHECK(parsed.ParseFromArray(answer.content.get(), static_cast<int>(answer.size)));
    Check(streamed.infer_response());
    End();
  }
  void Fail(const Ending& ending) override {
    CHECK(ending.message() == "failed" || ending.message() == "left");
    End();
  }
  void Refer(std::string message, bool) override {
    inference::ModelInferRequest parsed;
    CHECK(parsed.ParseFromString(message) && parsed.id() == message_.id());
    End();
  }
  void Read(const inference::ModelInferRequest&) override {}
  bool of_stream() const override { return of_stream_; }
  std::string RequestId() override { return message_.id(); }

 private:
  void AddInput(const char* name, const char* datatype, const std::vector<int64_t>& shape, const void* data, size_t bytes) {
    auto& input = *message_.add_inputs();
    input.set_name(name);
    input.set_datatype(datatype);
    for (const int64_t size : shape) input.add_shape(size);
    message_.add_raw_input_contents(data, bytes);
  }

  void Check(const inference::ModelInferResponse& response) const {
    CHECK(response.id() == message_.id() && response.raw_output_contents_size() == 3);
    std::vector<float> steps(x_.size());
    std::string last, tokens;
    for (size_t row = 0; row < rows_; ++row) {
      const size_t first = row * static_cast<size_t>(time_) * kFeatures;
      const size_t count = static_cast<size_t>(lengths_[row]) * kFeatures;
      std::copy_n(x_.begin() + static_cast<ptrdiff_t>(first), count, steps.begin() + static_cast<ptrdiff_t>(first));
      const float* const end = x_.data() + first + count;
      last.append(reinterpret_cast<const char*>(end - kFeatures), kFeatures * sizeof(float));
      const std::vector<float> state(kStateFloats, static_cast<float>(lengths_[row]));
      tokens += "sixteen bytes..." + std::string(reinterpret_cast<const char*>(state.data()), sizeof(float) * kStateFloats);
    }
    const std::string& content = response.raw_output_contents(0);
    CHECK(content.size() == steps.size() * sizeof(float) && std::memcmp(content.data(), steps.data(), content.size()) == 0);
    CHECK(response.raw_output_contents(1) == last && response.raw_output_contents(2) == tokens);
  }

  void End() {
    CHECK(ends_.fetch_add(1) == 0);
    burst_.Ended();
  }

  Burst& burst_;
  const size_t rows_;
  const int64_t time_;
  const bool of_stream_;
  std::vector<int64_t> lengths_;
  std::vector<float> x_;
  inference::ModelInferRequest message_;
  std::atomic<int> ends_{0};
};

class Load {
 public:
  // With `troubles`, requests are also cancelled, failed, held off and referred.
  Load(int clients, bool troubles)
      : clients_(clients),
        troubles_(troubles),
        counts_({"ok", "failed"}, {1.0}),
        slots_(std::make_shared<Slots>(clients * kBurst, kBurst)),
        inbox_(std::make_shared<const Signature>(LoadedVersion()), counts_.OfVersion("loaded", "1"), {}, kFailed) {}

  // Has each client send so many; `progress` is called by one of them, with how many it has sent.
  template <class Progress>
  void Run(int64_t of_each, const Progress& progress) {
    std::vector<std::thread> clients, engines;
    for (int engine = 0; engine < kEngines; ++engine) engines.emplace_back([this, engine] { RunEngine(engine); });
    std::thread runner([this] { RunTaker(); });
    for (int client = 0; client < clients_; ++client) {
      clients.emplace_back([&, client] {
        for (int64_t sent = 0; sent < of_each; sent += kBurst) {
          SendBurst(client, sent, std::min<int64_t>(kBurst, of_each - sent));
          if (client == 0) progress(std::min(sent + kBurst, of_each));
        }
      });
    }
    for (std::thread& client : clients) client.join();
    inbox_.Close();
    stopping_ = true;
    inbox_.Wake();
    runner.join();
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      closed_ = true;
    }
    changed_.notify_all();
    for (std::thread& engine : engines) engine.join();
    slots_->WaitEmpty(0);
    CHECK(slots_->Take("0") == Slots::kTaken);
  }

 private:
  static constexpr int64_t kBurst = 32, kEngines = 2;
  static constexpr int64_t kOverdueNs = 100'000, kPatienceNs = 3600 * kNanoseconds;
  static constexpr size_t kBatchRows = 8;

  struct Row {
    int64_t id, row, done, length;
  };

  static bool OneIn(std::minstd_rand& random, unsigned count) { return random() % count == 0; }

  void SendBurst(int client, int64_t first, int64_t count) {
    std::minstd_rand random(static_cast<unsigned>(first * clients_ + client + 1));
    const std::string owner = std::to_string(client);
    Burst burst;
    std::vector<std::shared_ptr<Entry>> entries;
    for (int64_t number = first; number < first + count; ++number) {
      const auto asker = std::make_shared<LoadAsker>(burst, owner + "-" + std::to_string(number), random);
      auto entry = std::make_shared<Entry>();
      CHECK(slots_->Take(owner) == Slots::kTaken);
      entry->place = std::make_unique<Place>(slots_, owner);
      entry->request = Request::Decode(inbox_.signature(), std::make_unique<inference::ModelInferRequest>(asker->message()),
                                       troubles_ && OneIn(random, 2) ? MonotonicNs() + kPatienceNs : kNeverNs,
                                       MonotonicNs());
      CHECK(entry->request != nullptr);
      entry->asker = asker;
      burst.Sent();
      CHECK(inbox_.Put(entry));
      if (troubles_) entries.push_back(std::move(entry));
    }
    for (const auto& entry : entries) {
      if (OneIn(random, 4)) Leave(entry);
    }
    burst.WaitOver();
  }

  void Leave(const std::shared_ptr<Entry>& entry) {
    const std::shared_ptr<Asker> asker = inbox_.Cancel(entry);
    if (asker) asker->Fail(EndingWith("left"));
  }

  void RunTaker() {
    std::minstd_rand random(1);
    int64_t next_id = 1;
    std::vector<int64_t> arrays[6];
    for (auto& array : arrays) array.resize(static_cast<size_t>(kBurst));
    while (true) {
      Inbox::Arrivals came{kBurst,           kBurst,           kBurst,           arrays[0].data(), arrays[1].data(),
                           arrays[2].data(), arrays[3].data(), arrays[4].data(), arrays[5].data(), 0, 0};
      inbox_.Take(next_id, came);
      for (int64_t index = 0, lengths = 0; index < came.count; lengths += came.rows[index++]) {
        const int64_t id = next_id++;
        if (troubles_ && OneIn(random, 16)) {
          inbox_.Refer(id);
        } else {
          Queue(id, came.rows[index], came.lengths + lengths);
        }
      }
      if (troubles_ && OneIn(random, 4)) HoldOffSome(random);
      for (int64_t index = 0; index < came.cancelled_count; ++index) {
        CHECK(came.cancelled[index] < next_id);
        inbox_.Fail(came.cancelled[index], EndingWith("left"), kFailed);
      }
      if (came.count != 0 || came.cancelled_count != 0) continue;
      if (stopping_) return;
      inbox_.WaitOverdue(kOverdueNs);
    }
  }

  void HoldOffSome(std::minstd_rand& random) {
    const HoldOff some{1 + static_cast<int64_t>(random()) % (2 * kMostSteps), 0, kNeverNs, EndingWith("left"), kFailed};
    inbox_.Set(OneIn(random, 2) ? nullptr : std::make_shared<const HoldOff>(some));
  }

  void Queue(int64_t id, int64_t rows, const int64_t* lengths) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      rows_left_[id] = rows;
      for (int64_t row = 0; row < rows; ++row) waiting_.push_back({id, row, 0, lengths[row]});
    }
    changed_.notify_one();
  }

  void RunEngine(int engine) {
    std::minstd_rand random(static_cast<unsigned>(engine + 1));
    std::vector<Row> rows;
    while (TakeRows(rows)) {
      RunBatch(rows, random);
      for (Row& row : rows) {
        if (troubles_ && OneIn(random, 32)) {
          inbox_.RequestId(row.id);
          inbox_.Fail(row.id, EndingWith("failed"), kFailed);
        }
        if (RowIsOver(row)) inbox_.Answer(&row.id, 1);
      }
      rows.clear();
    }
  }

  bool TakeRows(std::vector<Row>& rows) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return closed_ || !waiting_.empty(); });
    while (!waiting_.empty() && rows.size() < kBatchRows) {
      rows.push_back(waiting_.front());
      waiting_.pop_front();
    }
    return !rows.empty();
  }

  // Has the rest of the row run later; true if it was the last of its request.
  bool RowIsOver(const Row& row) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (row.done < row.length) {
      waiting_.push_back(row);
      changed_.notify_one();
      return false;
    }
    const auto left = rows_left_.find(row.id);
    if (--left->second != 0) return false;
    rows_left_.erase(left);
    return true;
  }

  void RunBatch(std::vector<Row>& rows, std::minstd_rand& random) {
    std::vector<int64_t> spans, positions;
    int64_t steps = 0;
    for (Row& row : rows) {
      const int64_t stop = row.done + 1 + static_cast<int64_t>(random()) % (row.length - row.done);
      spans.insert(spans.end(), {row.id, row.row, row.done, stop});
      positions.push_back(static_cast<int64_t>(positions.size()));
      steps = std::max(steps, stop - row.done);
      row.done = stop;
    }
    lstm_front::Run run(*inbox_.signature(), rows.size(), steps);
    const Inbox::Spans all{spans.data(), positions.data(), rows.size()};
    inbox_.Gather(all, run.batch());
    Compute(run, all);
    inbox_.Scatter(all, run.computed());
  }

  static void Compute(lstm_front::Run& run, const Inbox::Spans& spans) {
    std::memcpy(run.outputs.at(0), run.inputs.at(0), run.inputs.size(0));
    constexpr size_t kStepBytes = kFeatures * sizeof(float);
    for (size_t row = 0; row < run.rows; ++row) {
      const auto steps = static_cast<size_t>(spans[row].stop - spans[row].start);
      const size_t end = row * static_cast<size_t>(run.steps) + steps;
      std::memcpy(run.outputs.at(1) + row * kStepBytes, run.inputs.at(0) + (end - 1) * kStepBytes, kStepBytes);
      for (size_t i = 0; i < kStateFloats; ++i) run.states[row * kStateFloats + i] += static_cast<float>(steps);
    }
  }

  static Ending EndingWith(const char* message) {
    Ending ending;
    ending.set_message(message);
    return ending;
  }

  const int clients_;
  const bool troubles_;
  AllCounts counts_;
  const std::shared_ptr<Slots> slots_;
  Inbox inbox_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Row> waiting_;
  std::map<int64_t, int64_t> rows_left_;
  bool closed_ = false;
};

}  // namespace lstm_front
