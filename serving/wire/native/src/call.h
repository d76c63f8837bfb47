// What a gRPC call brings beside its messages, and how it ends.
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <string>

#include "ending.h"

namespace lstm_front {

// The deadline of a call on the monotonic clock, kNeverNs without one.
int64_t DeadlineNs(const grpc::ServerContext& context, int64_t now_ns);

// A value of the call's metadata; empty without one.
std::string ValueOf(const grpc::ServerContext& context, const char* key);
bool Has(const grpc::ServerContext& context, const char* key);

// The address at the other end without its port.
std::string AddressOf(const grpc::ServerContext& context);

// The caller's id of a call, a new one in the place of one that is not fit for use, empty without one.
std::string RequestIdOf(const grpc::ServerContext& context);

std::string MakeRequestId();

void Describe(const grpc::ServerContext& context, int64_t deadline_ns, int64_t begun_ns, const std::string& request_id,
              Opening& opening);

grpc::Status StatusOf(const Ending& ending);
void AddMetadata(grpc::ServerContext& context, const Ending& ending, const std::string& request_id);

// Ends a call whose answers have not been read for too long.
void EndUnread(grpc::ServerContext& context);

grpc::ByteBuffer BufferOf(std::unique_ptr<char[]> content, size_t size);
grpc::ByteBuffer BufferOf(const std::string& content);
// The bytes of a message, in one piece. Throws std::bad_alloc.
std::string BytesOf(const grpc::ByteBuffer& buffer);

}  // namespace lstm_front
