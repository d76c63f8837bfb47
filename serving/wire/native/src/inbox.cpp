#include "inbox.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <new>

#include "monotonic.h"

namespace lstm_front {

bool HoldOff::Holds(const Request& request) const {
  const int64_t longest = *std::max_element(request.lengths().begin(), request.lengths().end());
  return request.priority() == 0 && longest >= steps && request.deadline_ns() >= deadline_ns &&
         request.deadline_ns() < done_ns;
}

Inbox::Inbox(std::shared_ptr<const Signature> signature, std::shared_ptr<VersionCounts> counts, Ending no_memory,
             size_t outcome)
    : signature_(std::move(signature)),
      counts_(std::move(counts)),
      no_memory_(std::move(no_memory)),
      no_memory_outcome_(outcome) {}

bool Inbox::Put(std::shared_ptr<Entry> entry) {
  const Request& request = *entry->request;
  std::condition_variable* whom = nullptr;
  std::shared_ptr<const HoldOff> held;
  std::shared_ptr<Asker> asker;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) return false;
    if (hold_off_ && hold_off_->Holds(request)) {
      held = hold_off_;
      asker = std::move(entry->asker);
      entry->place.reset();
    } else {
      entry->request->queued_ns = MonotonicNs();
      if (!untaken()) untaken_since_ns_ = entry->request->queued_ns;
      pending_.push_back(entry);
      if (idle_ != 0 || pending_.size() == 1) whom = Whom();
    }
  }
  if (whom != nullptr) whom->notify_one();  // without the lock, which who wakes would wait for
  if (held) {
    counts_->Ended(held->outcome, MonotonicNs() - request.began_ns());
    asker->Fail(AfterNs(held->ending, held->done_ns - request.deadline_ns()));
  }
  return true;
}

// Under the lock: where somebody waits who can do something about what has come; nullptr if nobody has to be told.
std::condition_variable* Inbox::Whom() { return idle_ != 0 ? &idle_came_ : waiting_ != 0 ? &came_ : nullptr; }

void Inbox::Set(std::shared_ptr<const HoldOff> hold_off) {
  const std::lock_guard<std::mutex> lock(mutex_);
  hold_off_.swap(hold_off);
}

void Inbox::Close() {
  const std::lock_guard<std::mutex> lock(mutex_);
  closed_ = true;
}

std::shared_ptr<Asker> Inbox::Cancel(const std::shared_ptr<Entry>& entry) {
  std::condition_variable* whom;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!entry->asker) return nullptr;  // it has left
    if (entry->id == 0) {
      pending_.erase(std::find(pending_.begin(), pending_.end(), entry));
      entry->place.reset();
      return std::move(entry->asker);
    }
    if (!untaken()) untaken_since_ns_ = MonotonicNs();
    cancelled_.push_back(entry->id);
    whom = Whom();
  }
  if (whom != nullptr) whom->notify_one();
  return nullptr;
}

void Inbox::Take(int64_t first_id, Arrivals& arrivals) {
  std::unique_lock<std::mutex> lock(mutex_);
  arrivals.count = 0;
  int64_t lengths = 0;
  while (!pending_.empty() && arrivals.count < arrivals.capacity) {
    const std::shared_ptr<Entry>& entry = pending_.front();
    const Request& request = *entry->request;
    if (lengths + request.rows() > arrivals.lengths_capacity) break;
    const int64_t index = arrivals.count++;
    arrivals.rows[index] = request.rows();
    std::copy(request.lengths().begin(), request.lengths().end(), arrivals.lengths + lengths);
    lengths += request.rows();
    arrivals.queued_ns[index] = request.queued_ns;
    arrivals.deadline_ns[index] = request.deadline_ns();
    arrivals.priority[index] = request.priority();
    entry->id = first_id + index;
    try {
      live_.emplace(entry->id, entry);
    } catch (const std::bad_alloc&) {  // it stays until there is memory
      entry->id = 0;
      --arrivals.count;
      break;
    }
    pending_.pop_front();
  }
  const auto room = static_cast<size_t>(arrivals.cancelled_capacity);
  const size_t told = std::min(room, cancelled_.size());
  std::copy(cancelled_.begin(), cancelled_.begin() + static_cast<ptrdiff_t>(told), arrivals.cancelled);
  cancelled_.erase(cancelled_.begin(), cancelled_.begin() + static_cast<ptrdiff_t>(told));
  arrivals.cancelled_count = static_cast<int64_t>(told);
  std::condition_variable* const whom = untaken() ? Whom() : nullptr;
  untaken_since_ns_ = MonotonicNs();
  lock.unlock();
  if (whom != nullptr) whom->notify_one();
}

void Inbox::WaitIdle() {
  std::unique_lock<std::mutex> lock(mutex_);
  ++idle_;
  idle_came_.wait(lock, [this] { return roused_ || !pending_.empty() || !cancelled_.empty(); });
  --idle_;
  roused_ = false;
}

void Inbox::Rouse() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    roused_ = true;
  }
  idle_came_.notify_one();
}

void Inbox::WaitOverdue(int64_t ns) {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!woken_) {
    if (idle_ != 0 || !untaken()) {
      ++waiting_;
      came_.wait(lock);
      --waiting_;
      continue;
    }
    const int64_t left_ns = untaken_since_ns_ + ns - MonotonicNs();
    if (left_ns <= 0) break;
    overdue_.wait_for(lock, std::chrono::nanoseconds(left_ns));  // what else comes meanwhile does not wake it
  }
  woken_ = false;
}

void Inbox::Wake() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    woken_ = true;
  }
  came_.notify_all();
  overdue_.notify_all();
}

std::vector<std::shared_ptr<Entry>> Inbox::Find(const Spans& spans) {
  std::vector<std::shared_ptr<Entry>> found(spans.count);
  const std::lock_guard<std::mutex> lock(mutex_);
  for (size_t index = 0; index < spans.count; ++index) {
    const auto entry = live_.find(spans.id(index));
    if (entry != live_.end()) found[index] = entry->second;
  }
  return found;
}

// Instances may begin rows of one request at a time.
void Inbox::Begin(Entry& entry, int64_t now_ns) {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (entry.begun) return;
  entry.begun = true;
  counts_->Queued(now_ns - entry.request->queued_ns);
  if (!entry.asker) return;  // it is being ended
  try {
    entry.request->BeginAnswer(entry.asker->of_stream());
  } catch (const std::bad_alloc&) {  // `Answer` tells
  }
}

void Inbox::Gather(const Spans& spans, const Batch& batch) {
  const std::vector<std::shared_ptr<Entry>> entries = Find(spans);
  const int64_t now_ns = MonotonicNs();
  for (size_t index = 0; index < spans.count; ++index) {
    const Span span = spans[index];
    Entry* const entry = entries[index].get();
    if (entry != nullptr && entry->request->Gather(span, batch)) {
      Begin(*entry, now_ns);
      continue;
    }
    const auto position = static_cast<size_t>(span.position);
    for (size_t input = 0; input < signature_->inputs.size(); ++input) {
      const InputField& field = signature_->inputs[input];
      const size_t bytes = field.row_bytes * (field.follows_time ? static_cast<size_t>(batch.steps) : 1);
      std::memset(batch.inputs[input] + position * bytes, 0, bytes);
    }
    if (signature_->state) {
      std::memset(batch.states + position * signature_->state->floats, 0, signature_->state->bytes());
    }
  }
}

void Inbox::Scatter(const Spans& spans, const Computed& computed) {
  const std::vector<std::shared_ptr<Entry>> entries = Find(spans);
  for (size_t index = 0; index < spans.count; ++index) {
    if (entries[index]) entries[index]->request->Scatter(spans[index], computed);
  }
}

std::shared_ptr<Asker> Inbox::Leave(int64_t id, std::shared_ptr<Entry>& entry) {
  const std::lock_guard<std::mutex> lock(mutex_);
  const auto found = live_.find(id);
  if (found == live_.end()) return nullptr;
  entry = std::move(found->second);
  live_.erase(found);
  entry->place.reset();
  return std::move(entry->asker);
}

void Inbox::Answer(const int64_t* ids, size_t count) {
  for (size_t index = 0; index < count; ++index) {
    std::shared_ptr<Entry> entry;
    const std::shared_ptr<Asker> asker = Leave(ids[index], entry);
    if (!asker) continue;
    const int64_t taken_ns = MonotonicNs() - entry->request->began_ns();
    if (entry->request->answering()) {
      counts_->Ended(0, taken_ns);
      try {
        asker->Answer(entry->request->TakeAnswer());
      } catch (const std::exception&) {  // the others' answers are not to wait for it
        asker->Fail(no_memory_);
      }
    } else {
      counts_->Ended(no_memory_outcome_, taken_ns);
      asker->Fail(no_memory_);
    }
  }
}

void Inbox::Fail(int64_t id, const Ending& ending, size_t outcome) {
  std::shared_ptr<Entry> entry;
  const std::shared_ptr<Asker> asker = Leave(id, entry);
  if (!asker) return;
  counts_->Ended(outcome, MonotonicNs() - entry->request->began_ns());
  asker->Fail(ending);
}

void Inbox::Refer(int64_t id) {
  std::shared_ptr<Entry> entry;
  const std::shared_ptr<Asker> asker = Leave(id, entry);
  if (asker) asker->Refer(entry->request->message().SerializeAsString(), false);
}

std::string Inbox::RequestId(int64_t id) {
  std::shared_ptr<Asker> asker;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = live_.find(id);
    if (found != live_.end()) asker = found->second->asker;
  }
  return asker ? asker->RequestId() : std::string();
}

}  // namespace lstm_front
