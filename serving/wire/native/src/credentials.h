// Certificates that are asked for at every handshake, so that a renewed one is used by the next connection.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "seam.pb.h"

namespace lstm_front {

// Fills in the present certificates; false if there are none that are newer and good.
using CertificateSource = std::function<bool(Certificates& certificates)>;

// TLS with what `source` gives first, and again when one of the files changes (PEM). Throws std::runtime_error.
std::shared_ptr<grpc::ServerCredentials> TlsCredentials(CertificateSource source, std::vector<std::string> files,
                                                        bool asks_client);

}  // namespace lstm_front
