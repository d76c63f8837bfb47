// How calls end that are refused.
#pragma once

#include <cstdint>

#include "seam.pb.h"

namespace lstm_front {

Ending EndingOf(const Refusal& refusal);
// The same, for who may come again after so long, which its message says in the place of {ms}.
Ending AfterNs(Ending ending, int64_t ns);

}  // namespace lstm_front
