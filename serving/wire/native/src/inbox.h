// The requests of one model version, between the thread that reads them and the runner in Python.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "counts.h"
#include "ending.h"
#include "request.h"
#include "slots.h"

namespace lstm_front {

// Where a request came from, and its answer goes. One of the first three is called, once, by any thread.
class Asker {
 public:
  virtual ~Asker() = default;
  virtual void Answer(Request::Answer answer) = 0;
  virtual void Fail(const Ending& ending) = 0;
  // Have Python serve it, from its message on; `chosen` for a trace.
  virtual void Refer(std::string message, bool chosen) = 0;
  // Its message could be read.
  virtual void Read(const inference::ModelInferRequest& message) = 0;
  virtual bool of_stream() const = 0;
  // The caller's id of the call, or one that is made now; from now on the status tells it.
  virtual std::string RequestId() = 0;
};

// One of the slots, as long as this lives.
class Place {
 public:
  Place(std::shared_ptr<Slots> slots, std::string client) : slots_(std::move(slots)), client_(std::move(client)) {}
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  ~Place() { slots_->GiveBack(client_); }

 private:
  const std::shared_ptr<Slots> slots_;
  const std::string client_;
};

// A request under way. Freed by whoever lets go of it last.
struct Entry {
  std::unique_ptr<Request> request;
  std::shared_ptr<Asker> asker;
  std::unique_ptr<Place> place;
  int64_t id = 0;      // 0 until a runner has taken it
  bool begun = false;  // its first rows have gone to the engine
};

// What is refused without asking the runner, because it has just refused no more than that: requests of so many steps at
// least whose deadline is not before that one's, and not after the time when that one would have been done.
struct HoldOff {
  int64_t steps, deadline_ns, done_ns;
  Ending ending;  // its message has a place for milliseconds (`AfterNs`)
  size_t outcome;

  bool Holds(const Request& request) const;
};

class Inbox {
 public:
  // `no_memory` ends requests for whose answers there is none, and is counted as `outcome`.
  Inbox(std::shared_ptr<const Signature> signature, std::shared_ptr<VersionCounts> counts, Ending no_memory,
        size_t outcome);

  const std::shared_ptr<const Signature>& signature() const { return signature_; }
  VersionCounts& counts() const { return *counts_; }

  // False if it has been closed. What is held off ends at once.
  bool Put(std::shared_ptr<Entry> entry);
  // In the place of what was held off before; nullptr for nothing.
  void Set(std::shared_ptr<const HoldOff> hold_off);
  // Takes nothing more; what has come can still be taken.
  void Close();
  // Nobody waits for it any more. Returns the asker if no runner has seen it: it has left then.
  std::shared_ptr<Asker> Cancel(const std::shared_ptr<Entry>& entry);

  struct Arrivals {
    int64_t capacity, lengths_capacity, cancelled_capacity;
    int64_t *rows, *lengths, *queued_ns, *deadline_ns, *priority, *cancelled;
    int64_t count, cancelled_count;
  };
  // Numbers what has come from `first_id` on, as far as there is room, and lists taken requests that were cancelled.
  void Take(int64_t first_id, Arrivals& arrivals);
  // For who would run what comes: waits until something has come, or `Rouse`.
  void WaitIdle();
  // Ends one such wait, the present one or the next.
  void Rouse();
  // For who takes what nobody else does: waits until something has been there for so long while nobody was idle, or
  // `Wake`.
  void WaitOverdue(int64_t ns);
  void Wake();

  // Steps of rows of taken requests, and where in a batch they are.
  struct Spans {
    const int64_t* spans;  // [count, 4]: request, row, first step, last step (exclusive)
    const int64_t* positions;
    size_t count;

    int64_t id(size_t index) const { return spans[4 * index]; }
    Span operator[](size_t index) const {
      const int64_t* const span = spans + 4 * index;
      return {span[1], span[2], span[3], positions[index]};
    }
  };
  // Copies spans into a batch; those whose request has left become zeros.
  void Gather(const Spans& spans, const Batch& batch);
  // Copies what was computed of spans into the answers; passes over those whose request has left.
  void Scatter(const Spans& spans, const Computed& computed);

  // Ends requests; ids that have left are passed over.
  void Answer(const int64_t* ids, size_t count);
  void Fail(int64_t id, const Ending& ending, size_t outcome);
  void Refer(int64_t id);
  // The id under which the caller knows the request; empty if it has left.
  std::string RequestId(int64_t id);

 private:
  std::condition_variable* Whom();
  bool untaken() const { return !pending_.empty() || !cancelled_.empty(); }
  std::shared_ptr<Asker> Leave(int64_t id, std::shared_ptr<Entry>& entry);
  std::vector<std::shared_ptr<Entry>> Find(const Spans& spans);
  void Begin(Entry& entry, int64_t now_ns);

  const std::shared_ptr<const Signature> signature_;
  const std::shared_ptr<VersionCounts> counts_;
  const Ending no_memory_;
  const size_t no_memory_outcome_;
  std::mutex mutex_;
  std::condition_variable idle_came_, came_, overdue_;
  bool roused_ = false, woken_ = false, closed_ = false;
  int idle_ = 0, waiting_ = 0;
  int64_t untaken_since_ns_ = 0;  // while something is untaken
  std::shared_ptr<const HoldOff> hold_off_;
  std::deque<std::shared_ptr<Entry>> pending_;
  std::vector<int64_t> cancelled_;
  std::unordered_map<int64_t, std::shared_ptr<Entry>> live_;
};

}  // namespace lstm_front
