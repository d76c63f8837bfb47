#include "inflation.h"

#include <zlib.h>

#include <algorithm>
#include <limits>

namespace lstm_front {
namespace {

constexpr char kGzip[] = "\x1f\x8b\x08", kZlib[] = "\x78";
constexpr int kGzipBits = 16 + MAX_WBITS, kZlibBits = MAX_WBITS;
constexpr size_t kChunk = 1 << 16;

bool BeginsWith(const std::string& content, const char* beginning) { return content.rfind(beginning, 0) == 0; }

}  // namespace

bool LooksCompressed(const std::string& content) { return BeginsWith(content, kGzip) || BeginsWith(content, kZlib); }

std::optional<std::string> Inflated(const std::string& content, size_t max_bytes) {
  if (!LooksCompressed(content) || content.size() > std::numeric_limits<uInt>::max()) return content;
  z_stream stream{};
  if (inflateInit2(&stream, BeginsWith(content, kGzip) ? kGzipBits : kZlibBits) != Z_OK) throw std::bad_alloc();
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));  // zlib only reads it
  stream.avail_in = static_cast<uInt>(content.size());
  std::string message;
  int result = Z_OK;
  try {
    while (result == Z_OK && message.size() <= max_bytes) {
      const size_t before = message.size();
      message.resize(std::min(before + kChunk, max_bytes + 1));
      stream.next_out = reinterpret_cast<Bytef*>(message.data() + before);
      stream.avail_out = static_cast<uInt>(message.size() - before);
      result = inflate(&stream, Z_NO_FLUSH);
      message.resize(message.size() - stream.avail_out);
      if (result == Z_BUF_ERROR || (result == Z_OK && message.size() == before && stream.avail_in == 0)) break;
    }
  } catch (...) {
    inflateEnd(&stream);
    throw;
  }
  inflateEnd(&stream);
  if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) return content;
  if (message.size() > max_bytes) return std::nullopt;
  return result == Z_STREAM_END ? message : content;
}

}  // namespace lstm_front
