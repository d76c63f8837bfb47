#include "credentials.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <sys/stat.h>

#include <mutex>
#include <stdexcept>
#include <tuple>

namespace lstm_front {
namespace {

using Stamp = std::vector<std::tuple<int64_t, int64_t, int64_t, uint64_t>>;

// What changes when one of the files does, by whatever links its path leads to it.
Stamp Look(const std::vector<std::string>& files) {
  Stamp stamp;
  for (const std::string& file : files) {
    struct stat found {};
    if (stat(file.c_str(), &found) != 0) {
      stamp.emplace_back(0, 0, 0, 0);
    } else {
      stamp.emplace_back(found.st_size, found.st_mtim.tv_sec, found.st_mtim.tv_nsec, found.st_ino);
    }
  }
  return stamp;
}

class Reloading {
 public:
  Reloading(CertificateSource source, std::vector<std::string> files)
      : source_(std::move(source)), files_(std::move(files)) {}

  static grpc_ssl_certificate_config_reload_status Fetch(void* reloading, grpc_ssl_server_certificate_config** config) {
    return static_cast<Reloading*>(reloading)->Fetch(config);
  }

 private:
  grpc_ssl_certificate_config_reload_status Fetch(grpc_ssl_server_certificate_config** config) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Stamp stamp = Look(files_);
    if (!stamp_.empty() && stamp == stamp_) return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    Certificates certificates;
    if (!source_(certificates)) {  // the next handshake asks again: half of the files may be there so far
      return stamp_.empty() ? GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_FAIL : GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    stamp_ = std::move(stamp);
    const grpc_ssl_pem_key_cert_pair pair{certificates.key().c_str(), certificates.chain().c_str()};
    // gRPC 1.51 ends the process without an authority, even where no client is asked for a certificate.
    const std::string& authority =
        certificates.client_authority().empty() ? certificates.chain() : certificates.client_authority();
    *config = grpc_ssl_server_certificate_config_create(authority.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const CertificateSource source_;
  const std::vector<std::string> files_;
  std::mutex mutex_;
  Stamp stamp_;
};

// gRPC's C++ classes take certificates from files or once for all; its C interface asks for them.
class Credentials final : public grpc::ServerCredentials {
 public:
  Credentials(CertificateSource source, std::vector<std::string> files, bool asks_client)
      : reloading_(std::move(source), std::move(files)) {
    grpc_ssl_server_credentials_options* const options =
        grpc_ssl_server_credentials_create_options_using_config_fetcher(
            asks_client ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                        : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE,
            &Reloading::Fetch, &reloading_);
    credentials_ = options == nullptr ? nullptr : grpc_ssl_server_credentials_create_with_options(options);
    if (credentials_ == nullptr) throw std::runtime_error("gRPC takes no credentials of this kind");
  }
  ~Credentials() override { grpc_server_credentials_release(credentials_); }

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  Reloading reloading_;
  grpc_server_credentials* credentials_;
};

}  // namespace

std::shared_ptr<grpc::ServerCredentials> TlsCredentials(CertificateSource source, std::vector<std::string> files,
                                                        bool asks_client) {
  return std::make_shared<Credentials>(std::move(source), std::move(files), asks_client);
}

}  // namespace lstm_front
