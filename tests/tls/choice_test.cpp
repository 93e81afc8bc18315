// The choices of a handshake: certificates by name, application protocols, clients' certificates, resumption, and new
// certificates while a server runs.
#include "pair.hpp"

#include <openssl/err.h>

#include <fstream>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace reactor;

namespace {

TlsCertificate for_names(const std::string& name, const std::vector<std::string>& further = {}) {
    Wanted wanted;
    wanted.name = name;
    wanted.further_names = further;
    return certificate_of(authority().issue(wanted));
}

// The information of both sides of a connection whose handshake succeeds; it ends in order.
struct Agreed {
    TlsInfo server, client;
};

std::optional<Agreed> agree(const TlsContext& server, const TlsContext& client, const std::string& host = "localhost") {
    Pair pair(server, client, host);
    pair.run();
    if (pair.of_client.over || pair.of_server.over) return std::nullopt;
    const Agreed agreed{*tls_info(*pair.of_server.transport), *tls_info(*pair.of_client.transport)};
    pair.of_client.transport->close();
    pair.client.settle();
    pair.run();
    CHECK_FALSE(pair.of_client.reason);
    return agreed;
}

TlsServerOptions of_version(TlsVersion version) {
    TlsServerOptions options = server_options();
    options.least = options.most = version;
    return options;
}

constexpr TlsVersion versions[] = {TlsVersion::tls_1_2, TlsVersion::tls_1_3};

}  // namespace

TEST_CASE("Of several certificates the one for the client's name is sent, and the first for any other name") {
    TlsServerOptions options;
    options.certificates = {for_names("localhost"), for_names("example.com", {"www.example.com"}),
                            for_names("*.example.org")};
    const TlsContext server(options), client(client_options());
    CHECK(agree(server, client, "localhost")->client.peer_subject == "CN=localhost");
    CHECK(agree(server, client, "example.com")->client.peer_subject == "CN=example.com");
    CHECK(agree(server, client, "www.example.com")->client.peer_subject == "CN=example.com");
    CHECK(agree(server, client, "a.example.org")->client.peer_subject == "CN=*.example.org");
    CHECK_FALSE(agree(server, client, "other.net"));  // it gets the first, and refuses it
    TlsClientOptions careless = client_options();
    careless.verify = false;
    CHECK(agree(server, TlsContext(careless), "other.net")->client.peer_subject == "CN=localhost");
}

TEST_CASE("Of the application protocols the server's first one that the client offers is agreed on") {
    TlsServerOptions options = server_options();
    options.protocols = {"h2", "http/1.1"};
    const TlsContext server(options);
    TlsClientOptions wants = client_options();
    CHECK(agree(server, TlsContext(wants))->client.protocol.empty());
    wants.protocols = {"http/1.1", "h2"};
    const auto agreed = agree(server, TlsContext(wants));
    CHECK(agreed->client.protocol == "h2");
    CHECK(agreed->server.protocol == "h2");
    wants.protocols = {"smtp"};
    Pair pair(server, TlsContext(wants));
    pair.run();
    CHECK(pair.of_client.reason.message() == "the peer's alert: no application protocol");
    CHECK(agree(TlsContext(server_options()), TlsContext(wants))->client.protocol.empty());
}

TEST_CASE("A server that requires a client's certificate refuses clients without one, and knows those that have one") {
    for (const TlsVersion version : versions) {
        TlsServerOptions options = of_version(version);
        options.client_certificates = ClientCertificates::required;
        options.client_roots = {Pem::text(authority().certificate())};
        const TlsContext server(options);
        Pair without(server);
        without.run();
        CHECK(without.of_server.calls == std::vector<std::string>{"disconnected"});
        CHECK(without.of_server.reason.message() == "peer did not return a certificate");
        CHECK(without.of_client.reason.category() == tls_category());
        TlsClientOptions client = client_options();
        client.certificate = for_names("alice");
        const auto agreed = agree(server, TlsContext(client));
        REQUIRE(agreed);
        CHECK(agreed->server.peer_subject == "CN=alice");
        CHECK(agreed->server.peer_verified);
        const Authority unknown("Unknown");
        client.certificate = certificate_of(unknown.issue());
        Pair forged(server, TlsContext(client));
        forged.run();
        CHECK(forged.of_server.reason.message() == "unable to get local issuer certificate");
        options.client_certificates = ClientCertificates::optional;
        CHECK(agree(TlsContext(options), TlsContext(client_options()))->server.peer_subject.empty());
        options.revoked = {Pem::text(authority().revoke({5}))};
        Wanted wanted;
        wanted.serial = 5;
        client.certificate = certificate_of(authority().issue(wanted));
        Pair revoked{TlsContext(options), TlsContext(client)};
        revoked.run();
        CHECK(revoked.of_server.reason.message() == "certificate revoked");
    }
}

TEST_CASE("A client resumes its last session with a host, and with no other host") {
    for (const TlsVersion version : versions) {
        TlsServerOptions options = of_version(version);
        options.certificates = {for_names("localhost", {"example.com"})};
        const TlsContext server(options), client(client_options());
        CHECK_FALSE(agree(server, client)->client.resumed);
        const auto second = agree(server, client);
        CHECK(second->client.resumed);
        CHECK(second->server.resumed);
        CHECK(second->client.peer_subject == "CN=localhost");
        CHECK(second->client.peer_verified);
        CHECK_FALSE(agree(server, client, "example.com")->client.resumed);
        CHECK(agree(server, client)->client.resumed);  // a ticket came with the second one
        CHECK_FALSE(agree(server, TlsContext(client_options()))->client.resumed);
    }
}

TEST_CASE("Without tickets nothing is resumed, and a client that keeps no sessions resumes none") {
    for (const TlsVersion version : versions) {
        TlsServerOptions options = of_version(version);
        options.tickets = 0;
        const TlsContext server(options), client(client_options());
        CHECK_FALSE(agree(server, client)->client.resumed);
        CHECK_FALSE(agree(server, client)->client.resumed);
        TlsClientOptions forgetful = client_options();
        forgetful.resumable_hosts = 0;
        const TlsContext other(of_version(version)), none(forgetful);
        CHECK_FALSE(agree(other, none)->client.resumed);
        CHECK_FALSE(agree(other, none)->client.resumed);
    }
}

TEST_CASE("A client keeps the sessions of so many hosts as it is allowed, the last ones") {
    TlsServerOptions options = server_options();
    options.certificates = {for_names("localhost", {"a.net", "b.net", "c.net"})};
    TlsClientOptions wants = client_options();
    wants.resumable_hosts = 2;
    const TlsContext server(options), client(wants);
    for (const char* const host : {"a.net", "b.net", "c.net"}) CHECK_FALSE(agree(server, client, host)->client.resumed);
    CHECK(agree(server, client, "c.net")->client.resumed);
    CHECK_FALSE(agree(server, client, "a.net")->client.resumed);
}

TEST_CASE(
    "Servers that share ticket keys resume each other's sessions, an older key is accepted, and one that is gone is "
    "not") {
    for (const TlsVersion version : versions) {
        const TicketKey first = TicketKey::random(), second = TicketKey::random();
        TlsContext one(of_version(version)), other(of_version(version));
        CHECK_THROWS_AS(one.set_ticket_keys({}), std::invalid_argument);
        one.set_ticket_keys({first});
        other.set_ticket_keys({second, first});
        const TlsContext client(client_options());
        CHECK_FALSE(agree(one, client)->client.resumed);
        CHECK(agree(other, client)->client.resumed);  // and the ticket that comes is encrypted by the second key
        CHECK_FALSE(agree(one, client)->client.resumed);
        CHECK(agree(one, client)->client.resumed);
        one.set_ticket_keys({second});
        CHECK_FALSE(agree(one, client)->client.resumed);
        CHECK(agree(one, client)->client.resumed);
    }
}

TEST_CASE("A server that asks for clients' certificates still knows them when a session is resumed") {
    for (const TlsVersion version : versions) {
        TlsServerOptions options = of_version(version);
        options.client_certificates = ClientCertificates::required;
        options.client_roots = {Pem::text(authority().certificate())};
        TlsClientOptions wants = client_options();
        wants.certificate = for_names("alice");
        const TlsContext server(options), client(wants);
        CHECK_FALSE(agree(server, client)->server.resumed);
        const auto again = agree(server, client);
        REQUIRE(again);
        CHECK(again->server.resumed);
        CHECK(again->server.peer_subject == "CN=alice");
    }
}

TEST_CASE("New certificates are read while a server runs: handshakes under way and connections go on") {
    const TemporaryFolder folder;
    const std::string chain = folder / "chain.pem", key = folder / "key.pem";
    const auto put = [&](const Issued& issued) {
        std::ofstream(chain) << issued.certificate;
        std::ofstream(key) << issued.key;
    };
    Wanted wanted;
    wanted.serial = 1;
    wanted.name = "old";
    wanted.further_names = {"localhost"};
    put(authority().issue(wanted));
    TlsServerOptions options;
    options.certificates = {{Pem::file(chain), Pem::file(key)}, for_names("example.com")};
    TlsContext server(options);
    Pair connected(server), under_way(server);
    connected.run();
    under_way.server.feed(under_way.client.take());
    wanted.name = "new";
    put(authority().issue(wanted));
    server.reload();
    CHECK(agree(server, TlsContext(client_options()))->client.peer_subject == "CN=new");
    under_way.run();
    CHECK(tls_info(*under_way.of_client.transport)->peer_subject == "CN=old");
    connected.of_client.transport->write("still there");
    connected.client.settle();
    connected.run();
    CHECK(connected.of_server.input == "still there");
    // A file that is wrong changes nothing.
    std::ofstream(key) << "no key";
    CHECK_THROWS_AS(server.reload(), std::system_error);
    CHECK(agree(server, TlsContext(client_options()))->client.peer_subject == "CN=new");
    CHECK_THROWS_AS(server.reload(client_options()), std::invalid_argument);
}

TEST_CASE("Sessions are resumed beyond a reload") {
    TlsContext server(server_options());
    const TlsContext client(client_options());
    CHECK_FALSE(agree(server, client)->client.resumed);
    server.reload();
    CHECK(agree(server, client)->client.resumed);
}

TEST_CASE("A version that the other side does not speak ends the handshake with an error that says so") {
    TlsClientOptions wants = client_options();
    wants.most = TlsVersion::tls_1_2;
    Pair pair(TlsContext(of_version(TlsVersion::tls_1_3)), TlsContext(wants));
    pair.run();
    CHECK(pair.of_server.reason.message() == "unsupported protocol");
    CHECK(pair.of_client.reason.message() == "the peer's alert: protocol version");
}
