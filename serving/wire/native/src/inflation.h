// Messages that clients have compressed, inflated with a bound: see serving/wire/inflation.py.
#pragma once

#include <cstddef>
#include <optional>
#include <string>

namespace lstm_front {

// A message as it was before its client compressed it; as it is if it was not, or is not whole; nothing if it would be
// larger than `max_bytes`.
std::optional<std::string> Inflated(const std::string& content, size_t max_bytes);

// Whether it begins as a compressed message does: no protobuf of ours begins with gzip's bytes, but any may with zlib's.
bool LooksCompressed(const std::string& content);

}  // namespace lstm_front
