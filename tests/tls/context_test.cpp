// The errors of a TlsContext about wrong files and options, and the peers that it refuses.
#include "raw_peer.hpp"

#include <openssl/err.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <system_error>

using namespace reactor;

namespace {

std::string message_of(const TlsServerOptions& options) {
    try {
        (void)TlsContext(options);
    } catch (const std::system_error& error) {
        return error.what();
    }
    return "";
}

TlsServerOptions with(const Pem& chain, const Pem& key) {
    TlsServerOptions options;
    options.certificates = {{chain, key}};
    return options;
}

// The error of a client that wants to talk to "localhost", and that of the server.
struct Refusal {
    std::string client, server;
};

Refusal refusal(const TlsServerOptions& server, const TlsClientOptions& client, const std::string& host = "localhost") {
    Pair pair{TlsContext(server), TlsContext(client), host};
    pair.run();
    CHECK(pair.of_client.count("connected") == 0);
    CHECK(ERR_peek_error() == 0);
    return {pair.of_client.reason.message(), pair.of_server.reason.message()};
}

TlsServerOptions server_with(const Wanted& wanted, const Authority& by = authority()) {
    TlsServerOptions options;
    options.certificates = {certificate_of(by.issue(wanted))};
    return options;
}

}  // namespace

TEST_CASE("An error says which file is wrong, and what is wrong with it") {
    const TemporaryFolder folder;
    const Issued one = authority().issue(), other = authority().issue();
    const std::string certificate = folder / "certificate.pem", key = folder / "key.pem", wrong = folder / "wrong.pem";
    std::ofstream(certificate) << one.certificate;
    std::ofstream(key) << one.key;
    std::ofstream(wrong) << other.key;
    CHECK(message_of(with(Pem::file(certificate), Pem::file(key))).empty());
    CHECK(message_of(with(Pem::file(folder / "none.pem"), Pem::file(key))) ==
          "TlsContext: open(" + folder / "none.pem" + "): No such file or directory");
    CHECK(message_of(with(Pem::file(key), Pem::file(key))) ==
          "TlsContext: there is no certificate in " + key + ": no start line");
    CHECK(message_of(with(Pem::file(certificate), Pem::file(wrong))) == "TlsContext: the key in " + wrong +
                                                                            " is not that of the certificate in " +
                                                                            certificate + ": key values mismatch");
    CHECK(message_of(with(Pem::file(certificate), Pem::text("nothing"))).starts_with("TlsContext: the key in memory"));
    std::ofstream(wrong) << one.certificate.substr(0, 200);
    CHECK(message_of(with(Pem::file(wrong), Pem::file(key))).starts_with("TlsContext: certificate 1 in " + wrong));
    std::ofstream(wrong) << one.certificate << one.certificate.substr(0, 200);
    CHECK(message_of(with(Pem::file(wrong), Pem::file(key))).starts_with("TlsContext: certificate 2 in " + wrong));
    CHECK(ERR_peek_error() == 0);
}

TEST_CASE("A key that is encrypted by a password is refused, and the terminal is not asked") {
    const std::string text =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"
        "MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAhJ1w2Sq1yXNgICCAAw\n"
        "DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEFzIpGjqVJ0p7HVbE8yCqLgEgZA=\n"
        "-----END ENCRYPTED PRIVATE KEY-----\n";
    CHECK(message_of(with(Pem::text(authority().issue().certificate), Pem::text(text)))
              .starts_with("TlsContext: the key in memory"));
}

TEST_CASE("Options that could never serve are refused") {
    CHECK_THROWS_AS((void)TlsContext(TlsServerOptions()), std::invalid_argument);
    TlsServerOptions options = server_options();
    options.least = TlsVersion::tls_1_3;
    options.most = TlsVersion::tls_1_2;
    CHECK_THROWS_AS((void)TlsContext(options), std::invalid_argument);
    options = server_options();
    options.client_certificates = ClientCertificates::required;
    CHECK_THROWS_AS((void)TlsContext(options), std::invalid_argument);
    options = server_options();
    options.protocols = {"h2", ""};
    CHECK_THROWS_AS((void)TlsContext(options), std::invalid_argument);
}

TEST_CASE("A client names its host, and a server has none to talk to") {
    const TlsContext server(server_options()), client(client_options());
    Journal journal;
    const auto protocol = [&] { return std::make_unique<Recorder>(journal); };
    CHECK_THROWS_AS((void)tls(client, protocol()), std::invalid_argument);
    CHECK_THROWS_AS((void)tls(client, "", protocol()), std::invalid_argument);
    CHECK_THROWS_AS((void)tls(server, "localhost", protocol()), std::invalid_argument);
    CHECK(tls(server, std::unique_ptr<Protocol>()) == nullptr);
    TlsClientOptions careless = client_options();
    careless.verify = false;
    CHECK(tls(TlsContext(careless), "", protocol()) != nullptr);
}

TEST_CASE(
    "A certificate that has expired, is for another host or has an unknown signer is refused, and both are told why") {
    Wanted expired;
    expired.from = std::chrono::hours(-48);
    expired.until = std::chrono::hours(-24);
    Refusal result = refusal(server_with(expired), client_options());
    CHECK(result.client == "certificate has expired");
    CHECK(result.server == "the peer's alert: certificate expired");
    Wanted early;
    early.from = std::chrono::hours(24);
    early.until = std::chrono::hours(48);
    CHECK(refusal(server_with(early), client_options()).client == "certificate is not yet valid");
    result = refusal(server_options(), client_options(), "example.com");
    CHECK(result.client == "hostname mismatch");
    CHECK(result.server == "the peer's alert: bad certificate");
    CHECK(refusal(server_options(), client_options(), "127.0.0.1").client == "IP address mismatch");
    const Authority unknown("Unknown");
    result = refusal(server_with({}, unknown), client_options());
    CHECK(result.client == "unable to get local issuer certificate");
    CHECK(result.server == "the peer's alert: unknown CA");
}

TEST_CASE("A certificate that is on a given list of revoked ones is refused, and others are not") {
    TlsClientOptions client = client_options();
    client.revoked = {Pem::text(authority().revoke({17}))};
    Wanted wanted;
    wanted.serial = 17;
    CHECK(refusal(server_with(wanted), client).client == "certificate revoked");
    wanted.serial = 18;
    Pair pair{TlsContext(server_with(wanted)), TlsContext(client)};
    pair.run();
    CHECK(pair.of_client.count("connected") == 1);
}

TEST_CASE("A host may be an address, which the certificate names as such") {
    Wanted wanted;
    wanted.further_names = {"127.0.0.1", "::1"};
    for (const char* const host : {"127.0.0.1", "::1"}) {
        Pair pair{TlsContext(server_with(wanted)), TlsContext(client_options()), host};
        pair.run();
        REQUIRE(pair.of_client.count("connected") == 1);
        CHECK(tls_info(*pair.of_server.transport)->server_name.empty());
    }
}

TEST_CASE("Without verification any certificate will do, and the information says that nothing was verified") {
    const Authority unknown("Unknown");
    TlsClientOptions careless = client_options();
    careless.verify = false;
    Pair pair{TlsContext(server_with({}, unknown)), TlsContext(careless), "example.com"};
    pair.run();
    REQUIRE(pair.of_client.count("connected") == 1);
    CHECK_FALSE(tls_info(*pair.of_client.transport)->peer_verified);
}

TEST_CASE("A group of 112 bits is not agreed on, although OpenSSL offers it") {
    for (const char* const group : {"ffdhe2048", "P-256"}) {
        Journal journal;
        testing::MemoryTransport server(tls(TlsContext(server_options()), std::make_unique<Recorder>(journal)));
        RawPeer peer(false, TlsVersion::tls_1_3);
        REQUIRE(SSL_set1_groups_list(peer.ssl(), group) == 1);
        peer.step();
        server.feed(peer.take());
        peer.feed(server.take());
        server.feed(peer.take());
        server.end();
        const bool weak = std::string_view(group) == "ffdhe2048";
        CHECK(journal.count("connected") == (weak ? 0 : 1));
        if (weak) CHECK(journal.reason.message() == "no suitable key share");
    }
}
