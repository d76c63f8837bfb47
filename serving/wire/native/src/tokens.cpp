#include "tokens.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <ctime>

namespace lstm_front {
namespace {

constexpr char kBearer[] = "bearer ";

// Returns the token in `Bearer TOKEN`, without the spaces around it; empty if there is none.
std::string TokenIn(const std::string& authorization) {
  constexpr size_t kLength = sizeof(kBearer) - 1;
  if (authorization.size() < kLength) return "";
  for (size_t i = 0; i < kLength; ++i) {
    const char letter = authorization[i];
    if ((letter >= 'A' && letter <= 'Z' ? letter - 'A' + 'a' : letter) != kBearer[i]) return "";
  }
  const size_t first = authorization.find_first_not_of(' ', kLength);
  if (first == std::string::npos) return "";
  return authorization.substr(first, authorization.find_last_not_of(' ') + 1 - first);
}

}  // namespace

void TokenTable::Set(const Tokens& tokens) {
  auto clients = std::make_shared<Clients>();
  for (const auto& each : tokens.clients()) {
    auto client = std::make_shared<Client>();
    client->name = each.name();
    client->all_models = each.all_models();
    client->models.insert(each.models().begin(), each.models().end());
    client->ends_at = each.ends_at();
    client->sha256 = each.sha256();
    if (client->sha256.size() == SHA256_DIGEST_LENGTH) clients->push_back(std::move(client));
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  clients_ = std::move(clients);
}

std::shared_ptr<const TokenTable::Clients> TokenTable::clients() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return clients_;
}

bool TokenTable::asks() const { return clients() != nullptr; }

std::shared_ptr<const Client> TokenTable::Find(const std::string& authorization) const {
  const std::string token = TokenIn(authorization);
  const auto known = clients();
  if (token.empty() || !known) return nullptr;
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), digest);
  std::shared_ptr<const Client> found;
  for (const auto& client : *known) {
    if (CRYPTO_memcmp(client->sha256.data(), digest, sizeof(digest)) == 0) found = client;
  }
  if (found && found->ends_at != 0 && std::time(nullptr) >= found->ends_at) return nullptr;
  return found;
}

}  // namespace lstm_front
