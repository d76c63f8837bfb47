// What Python calls, by ctypes, which lets go of the interpreter's lock meanwhile. No exception leaves a function.
//
// Messages are those of seam.proto, serialized. A pointer that a function returns as `bytes` is freed by `lstm_front_free`.
#pragma once

#include <stddef.h>
#include <stdint.h>

#define LSTM_FRONT_API extern "C" __attribute__((visibility("default")))

struct lstm_front_bytes {
  char* data;
  size_t size;
};

// What has come to an inbox: filled in by `lstm_front_take`, up to the capacities.
struct lstm_front_arrivals {
  int64_t capacity, lengths_capacity, cancelled_capacity;
  int64_t *rows, *lengths, *queued_ns, *deadline_ns, *priority, *cancelled;
  int64_t count, cancelled_count;
};

struct lstm_front_event {
  int32_t kind;  // Bridge::Kind
  int64_t call;
  lstm_front_bytes content;
};

// Fills in `Certificates`; 0 if there are none that are newer and good.
typedef int32_t (*lstm_front_certificates)(lstm_front_bytes* certificates);

LSTM_FRONT_API void lstm_front_free(char* bytes);

LSTM_FRONT_API void* lstm_front_slots_open(int64_t count, int64_t per_client);
LSTM_FRONT_API void lstm_front_slots_close(void* slots);
LSTM_FRONT_API int32_t lstm_front_slots_take(void* slots, const char* client);
LSTM_FRONT_API void lstm_front_slots_give_back(void* slots, const char* client);
LSTM_FRONT_API void lstm_front_slots_wait_empty(void* slots, double seconds);

// Opens a front on `Settings`; nullptr, and `message` filled in, if it cannot be. `certificates` is called by its threads.
LSTM_FRONT_API void* lstm_front_open(const char* settings, size_t size, void* slots,
                                     lstm_front_certificates certificates, char* message, size_t message_size);
LSTM_FRONT_API void lstm_front_close(void* front);
LSTM_FRONT_API int32_t lstm_front_port(void* front);
LSTM_FRONT_API void lstm_front_start(void* front);
LSTM_FRONT_API void lstm_front_drain(void* front);
LSTM_FRONT_API void lstm_front_stop(void* front, double seconds);
LSTM_FRONT_API void lstm_front_set_health(void* front, const char* service, int32_t status);
// Ends all health watches, and those that come.
LSTM_FRONT_API void lstm_front_end_watches(void* front);
LSTM_FRONT_API void lstm_front_set_tokens(void* front, const char* tokens, size_t size);
LSTM_FRONT_API lstm_front_bytes lstm_front_counts(void* front);
LSTM_FRONT_API void lstm_front_forget(void* front, const char* model, const char* version);

// An inbox for a `Version`; nullptr if it has a datatype that the front does not know.
LSTM_FRONT_API void* lstm_front_inbox_open(void* front, const char* version, size_t size);
LSTM_FRONT_API void lstm_front_inbox_close(void* inbox);
// Which inbox gets the requests for a model and version, from now on; other requests go to Python.
LSTM_FRONT_API void lstm_front_set_routes(void* front, size_t count, const char* const* models,
                                          const char* const* versions, void* const* inboxes);

LSTM_FRONT_API void lstm_front_inbox_shut(void* inbox);
LSTM_FRONT_API void lstm_front_take(void* inbox, int64_t first_id, lstm_front_arrivals* arrivals);
LSTM_FRONT_API void lstm_front_wait_idle(void* inbox);
LSTM_FRONT_API void lstm_front_rouse(void* inbox);
LSTM_FRONT_API void lstm_front_wait_overdue(void* inbox, int64_t ns);
LSTM_FRONT_API void lstm_front_wake(void* inbox);
// Spans are int64[count, 4] (request, row, first step, last step), positions int64[count] of rows in the batch. Both return
// 0 if there was no memory: then the batch must not be computed, or its outputs are nobody's.
LSTM_FRONT_API int32_t lstm_front_gather(void* inbox, const int64_t* spans, const int64_t* positions, size_t count,
                                         int64_t steps, char* const* inputs, float* states);
LSTM_FRONT_API int32_t lstm_front_scatter(void* inbox, const int64_t* spans, const int64_t* positions, size_t count,
                                          int64_t steps, const char* const* outputs, const float* states);
LSTM_FRONT_API void lstm_front_answer(void* front, void* inbox, const int64_t* ids, size_t count);
LSTM_FRONT_API void lstm_front_fail(void* front, void* inbox, int64_t id, const char* reason, const char* ending,
                                    size_t size);
// Has requests refused like one of so many steps and that deadline, which would have been done at `done_ns`.
LSTM_FRONT_API void lstm_front_hold_off(void* front, void* inbox, int64_t steps, int64_t deadline_ns, int64_t done_ns,
                                        const char* reason, const char* ending, size_t size);
// Has nothing refused without being asked any more.
LSTM_FRONT_API void lstm_front_resume(void* inbox);
LSTM_FRONT_API void lstm_front_refer(void* inbox, int64_t id);
LSTM_FRONT_API lstm_front_bytes lstm_front_request_id(void* inbox, int64_t id);

// Calls that Python answers: `which` 0, requests for inference; 1, all others.
LSTM_FRONT_API lstm_front_event lstm_front_next(void* front, int32_t which);
LSTM_FRONT_API lstm_front_bytes lstm_front_call_describe(void* front, int32_t which, int64_t call);
LSTM_FRONT_API void lstm_front_call_receive(void* front, int32_t which, int64_t call);
LSTM_FRONT_API void lstm_front_call_send(void* front, int32_t which, int64_t call, const char* content, size_t size);
LSTM_FRONT_API void lstm_front_call_finish(void* front, int32_t which, int64_t call, const char* ending,
                                           size_t ending_size, const char* content, size_t size);
LSTM_FRONT_API int32_t lstm_front_call_active(void* front, int32_t which, int64_t call);
LSTM_FRONT_API void lstm_front_call_release(void* front, int32_t which, int64_t call);

// A request without a call, for tests; nullptr if it would be Python's. `collect` waits for its answer, or the message of its
// error, or for itself if it is handed back, and may be called once.
LSTM_FRONT_API void* lstm_front_offer(void* inbox, const char* message, size_t size, int64_t deadline_ns,
                                      int64_t now_ns);
LSTM_FRONT_API lstm_front_bytes lstm_front_collect(void* offered);
