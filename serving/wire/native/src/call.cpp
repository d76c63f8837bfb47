#include "call.h"

#include <grpc/grpc.h>
#include <grpc/support/time.h>

#include <memory>
#include <random>
#include <vector>

#include "monotonic.h"

namespace lstm_front {
namespace {

constexpr char kRequestIdKey[] = "x-request-id";
constexpr size_t kLongestRequestId = 128;
constexpr int64_t kLongestDeadlineSeconds = int64_t{10} * 365 * 24 * 3600;  // gRPC says "never" with a time beyond it

bool FitForUse(const std::string& id) {
  if (id.empty() || id.size() > kLongestRequestId) return false;
  for (const char letter : id) {
    if (letter < ' ' || letter > '~') return false;
  }
  return true;
}

}  // namespace

std::string MakeRequestId() {
  static thread_local std::mt19937_64 random{std::random_device{}()};
  constexpr char kDigits[] = "0123456789abcdef";
  std::string id;
  for (int word = 0; word < 2; ++word) {
    uint64_t bits = random();
    for (int digit = 0; digit < 16; ++digit, bits >>= 4) id += kDigits[bits & 15];
  }
  return id;
}

int64_t DeadlineNs(const grpc::ServerContext& context, int64_t now_ns) {
  const gpr_timespec deadline = context.raw_deadline();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  if (left.tv_sec > kLongestDeadlineSeconds) return kNeverNs;
  return now_ns + left.tv_sec * kNanoseconds + left.tv_nsec;
}

std::string ValueOf(const grpc::ServerContext& context, const char* key) {
  const auto found = context.client_metadata().find(key);
  return found == context.client_metadata().end() ? std::string()
                                                  : std::string(found->second.data(), found->second.size());
}

bool Has(const grpc::ServerContext& context, const char* key) { return context.client_metadata().count(key) != 0; }

std::string AddressOf(const grpc::ServerContext& context) {
  const std::string peer = context.peer();
  return peer.substr(0, peer.rfind(':') == std::string::npos ? 0 : peer.rfind(':'));
}

std::string RequestIdOf(const grpc::ServerContext& context) {
  if (!Has(context, kRequestIdKey)) return "";
  std::string id = ValueOf(context, kRequestIdKey);
  return FitForUse(id) ? id : MakeRequestId();
}

void Describe(const grpc::ServerContext& context, int64_t deadline_ns, int64_t begun_ns, const std::string& request_id,
              Opening& opening) {
  opening.set_peer(context.peer());
  for (const auto& [key, value] : context.client_metadata()) {
    auto& pair = *opening.add_metadata();
    pair.set_key(std::string(key.data(), key.size()));
    pair.set_value(pair.key() == kRequestIdKey ? request_id : std::string(value.data(), value.size()));
  }
  if (deadline_ns != kNeverNs) opening.set_deadline_ns(deadline_ns);
  opening.set_begun_ns(begun_ns);
}

grpc::Status StatusOf(const Ending& ending) {
  return grpc::Status(static_cast<grpc::StatusCode>(ending.code()), ending.message());
}

void AddMetadata(grpc::ServerContext& context, const Ending& ending, const std::string& request_id) {
  bool told = false;
  for (const auto& pair : ending.metadata()) {
    told |= pair.key() == kRequestIdKey;
    context.AddTrailingMetadata(pair.key(), pair.value());
  }
  if (!told && !request_id.empty()) context.AddTrailingMetadata(kRequestIdKey, request_id);
}

void EndUnread(grpc::ServerContext& context) {
  grpc_call_cancel_with_status(context.c_call(), GRPC_STATUS_RESOURCE_EXHAUSTED,
                               "its answers were not read for too long", nullptr);
}

grpc::ByteBuffer BufferOf(std::unique_ptr<char[]> content, size_t size) {
  const auto free = [](void* memory) { delete[] static_cast<char*>(memory); };
  char* const memory = content.release();
  const grpc::Slice slice(memory, size, free, memory);
  return grpc::ByteBuffer(&slice, 1);
}

grpc::ByteBuffer BufferOf(const std::string& content) {
  const grpc::Slice slice(content);
  return grpc::ByteBuffer(&slice, 1);
}

std::string BytesOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  buffer.Dump(&slices);
  std::string bytes;
  bytes.reserve(buffer.Length());
  for (const grpc::Slice& slice : slices) bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return bytes;
}

}  // namespace lstm_front
