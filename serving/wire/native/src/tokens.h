// Whose token it is: hashes and rights, as Python has read them from the file.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

#include "seam.pb.h"

namespace lstm_front {

struct Client {
  std::string name;
  bool all_models = false;
  std::unordered_set<std::string> models;
  int64_t ends_at = 0;  // seconds since the epoch; 0: never
  std::string sha256;

  bool may_use(const std::string& model) const { return all_models || models.count(model) != 0; }
};

class TokenTable {
 public:
  // From now on callers are asked for one of these.
  void Set(const Tokens& tokens);
  bool asks() const;

  // Whose it is, nullptr if nobody's or if its time is over. Every hash is compared, each in constant time.
  std::shared_ptr<const Client> Find(const std::string& authorization) const;

 private:
  using Clients = std::vector<std::shared_ptr<const Client>>;
  std::shared_ptr<const Clients> clients() const;

  mutable std::mutex mutex_;
  std::shared_ptr<const Clients> clients_;  // none: nobody is asked
};

}  // namespace lstm_front
