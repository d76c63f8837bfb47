#include "weights_file.h"

#include <cmath>
#include <cstring>

namespace lstm_native {
namespace {

constexpr char kMagic[8] = {'L', 'S', 'T', 'M', 'Q', 'N', 'T', '1'};
constexpr uint32_t kFormat = 1, kMostLayers = 1024, kLargestSize = 1 << 16;
constexpr uint32_t kLinearBeforeReset = 1, kPeephole = 2, kRelu = 4;
constexpr size_t kHeaderBytes = 64, kRecordBytes = 128, kAlignment = 64;

struct Header {
  char magic[8];
  uint32_t format, layers;
  uint64_t bytes;
};

struct Record {
  uint32_t kind, direction, flags, inputs, hidden, zero;
  uint64_t offsets[2][5];
};
static_assert(sizeof(Record) == 104, "as the file has it");

class Reader {
 public:
  Reader(const unsigned char* data, size_t size) : data_(data), size_(size) {}

  std::string read(std::vector<Layer>* layers) {
    Header header;
    if (size_ < kHeaderBytes) return "it is shorter than a header";
    std::memcpy(&header, data_, sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) return "it does not begin with LSTMQNT1";
    if (header.format != kFormat) return "its format is " + std::to_string(header.format) + ", this library reads 1";
    if (header.bytes != size_) return "it has " + std::to_string(size_) + " bytes, its header says " + std::to_string(header.bytes);
    if (header.layers < 1 || header.layers > kMostLayers || size_ < kHeaderBytes + kRecordBytes * header.layers)
      return "it cannot hold " + std::to_string(header.layers) + " layers";
    for (uint32_t i = 0; i < header.layers; ++i) {
      Layer layer{};
      std::string problem = read_layer(i, &layer);
      if (!problem.empty()) return "layer " + std::to_string(i) + ": " + problem;
      layers->push_back(layer);
    }
    return "";
  }

 private:
  std::string read_layer(uint32_t index, Layer* layer) {
    Record record;
    std::memcpy(&record, data_ + kHeaderBytes + kRecordBytes * index, sizeof record);
    if (record.kind > 2 || record.direction > 2 || record.flags > 7 || record.zero != 0) return "unknown operator, direction or flag";
    if (record.inputs < 1 || record.inputs > kLargestSize || record.hidden < 1 || record.hidden > kLargestSize)
      return "its sizes are out of range";
    layer->kind = static_cast<Operator>(record.kind);
    layer->linear_before_reset = record.flags & kLinearBeforeReset;
    layer->relu = record.flags & kRelu;
    layer->gates = record.kind == 0 ? 4 : record.kind == 1 ? 3 : 1;
    layer->bias_gates = record.kind == 1 ? 4 : layer->gates;
    layer->inputs = static_cast<int>(record.inputs);
    layer->hidden = static_cast<int>(record.hidden);
    layer->blocks = round_up(layer->hidden, kUnits) / kUnits;
    layer->directions = record.direction == 2 ? 2 : 1;
    for (int d = 0; d < layer->directions; ++d) {
      layer->direction[d].reverse = record.direction == 1 || d == 1;
      const char* problem = read_direction(record, d, *layer, &layer->direction[d]);
      if (problem != nullptr) return problem;
    }
    return "";
  }

  const char* read_direction(const Record& record, int index, const Layer& layer, Direction* direction) {
    const uint64_t* offsets = record.offsets[index];
    const size_t channels = static_cast<size_t>(layer.blocks) * layer.gates * kUnits;
    const float* scales = nullptr;
    if (!take_matrix(offsets[0], channels, layer.inputs, &direction->input) ||
        !take_matrix(offsets[1], channels, layer.hidden, &direction->recurrent))
      return "its weights reach beyond the file, or a byte is not 1 to 127";
    if (!take_floats(offsets[2], 3 * channels, &scales)) return "its scales reach beyond the file or are not finite";
    direction->input.scales = scales;
    direction->recurrent.scales = scales + channels;
    direction->input.column_sums = scales + 2 * channels;
    const size_t biases = static_cast<size_t>(layer.blocks) * layer.bias_gates * kUnits;
    if (!take_floats(offsets[3], biases, &direction->biases)) return "its biases reach beyond the file or are not finite";
    const bool peephole = record.flags & kPeephole;
    if (peephole != (offsets[4] != 0) || (peephole && record.kind != 0)) return "peepholes and flags disagree";
    if (peephole && !take_floats(offsets[4], static_cast<size_t>(layer.blocks) * 3 * kUnits, &direction->peepholes))
      return "its peepholes reach beyond the file or are not finite";
    return nullptr;
  }

  const unsigned char* section(uint64_t offset, size_t bytes) const {
    const bool inside = offset >= kHeaderBytes && offset % kAlignment == 0 && offset <= size_ && bytes <= size_ - offset;
    return inside ? data_ + offset : nullptr;
  }

  bool take_matrix(uint64_t offset, size_t channels, int columns, Matrix* matrix) const {
    const int filled = round_up(columns, kOctet);
    const unsigned char* weights = section(offset, channels * filled);
    if (weights == nullptr) return false;
    unsigned char outside = 0;  // a byte of 0 or above 127 would break the exactness of the sums
    for (size_t i = 0; i < channels * filled; ++i) outside |= static_cast<unsigned char>(weights[i] - 1) > 126;
    *matrix = {weights, nullptr, nullptr, columns, filled / kOctet};
    return outside == 0;
  }

  bool take_floats(uint64_t offset, size_t count, const float** floats) const {
    const unsigned char* place = section(offset, count * sizeof(float));
    if (place == nullptr) return false;
    *floats = reinterpret_cast<const float*>(place);
    for (size_t i = 0; i < count; ++i)
      if (!std::isfinite((*floats)[i])) return false;
    return true;
  }

  const unsigned char* data_;
  size_t size_;
};

}  // namespace

std::string read_layers(const unsigned char* data, size_t size, std::vector<Layer>* layers) {
  return Reader(data, size).read(layers);
}

}  // namespace lstm_native
