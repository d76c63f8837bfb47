#include "ending.h"

#include <string>

#include "monotonic.h"

namespace lstm_front {
namespace {

constexpr char kReasonKey[] = "reason";
constexpr char kPushbackKey[] = "grpc-retry-pushback-ms";
constexpr char kMilliseconds[] = "{ms}";
constexpr int64_t kMillisecondNs = kNanoseconds / 1000;

}  // namespace

Ending EndingOf(const Refusal& refusal) {
  Ending ending;
  ending.set_code(refusal.code());
  ending.set_message(refusal.message());
  auto& pair = *ending.add_metadata();
  pair.set_key(kReasonKey);
  pair.set_value(refusal.reason());
  return ending;
}

Ending AfterNs(Ending ending, int64_t ns) {
  const std::string ms = std::to_string((ns + kMillisecondNs - 1) / kMillisecondNs);
  std::string& message = *ending.mutable_message();
  for (size_t place; (place = message.find(kMilliseconds)) != std::string::npos;) {
    message.replace(place, sizeof(kMilliseconds) - 1, ms);
  }
  auto& pushback = *ending.add_metadata();
  pushback.set_key(kPushbackKey);
  pushback.set_value(ms);
  return ending;
}

}  // namespace lstm_front
