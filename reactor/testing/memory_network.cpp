// An address of this network is the end of a Unix socket's name: "127.0.0.1:80" listens at "PREFIX/127.0.0.1:80". So
// the kernel knows which are taken, and only names and the test's wishes are kept here.
#include <reactor/testing/memory_network.hpp>

#include <reactor/detail/internals.hpp>
#include <reactor/net/detail/network.hpp>
#include <reactor/net/look_up_impl.hpp>
#include <reactor/stream/transport.hpp>
#include <reactor/system_impl.hpp>

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#if !REACTOR_HAS(ABSTRACT_NAMES)
#include <filesystem>
#endif

namespace reactor::testing {

namespace {

constexpr int most_iterations = 100'000;

#if REACTOR_HAS(ABSTRACT_NAMES)
std::string new_prefix() {
    static std::atomic<unsigned> count{0};
    return "reactor-network-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}
Address named(const std::string& name) {
    return Address::unix_abstract(name);
}
#else
std::string new_prefix() {
    std::string name = (std::filesystem::temp_directory_path() / "reactor-network-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::system_error(errno, std::system_category(), "mkdtemp");
    return name;
}
Address named(const std::string& name) {
    return Address::unix_path(name);
}
#endif

}  // namespace

class MemoryNetwork::Names final : public Network {
public:
    explicit Names(std::string_view backend) : Network(reactor), reactor(backend, clock), prefix_(new_prefix()) {}
#if !REACTOR_HAS(ABSTRACT_NAMES)
    ~Names() {
        std::filesystem::remove_all(prefix_);
    }
#endif

    std::vector<Address> look_up(std::string_view host, std::uint16_t port, bool listens) override {
        if (listens && port == 0) port = ++last_port_;
        if (const auto known = addresses_without_look_up(host, port)) return *known;
        if (listens) return {add(host).with_port(port)};
        const auto found = names_.find(host);
        if (found != names_.end()) return {found->second.with_port(port)};
        throw std::system_error(std::make_error_code(std::errc::address_not_available),
                                "MemoryNetwork: \"" + std::string(host) + "\" is not known");
    }

    Way way_to(const Address& address) override {
        const auto fate = fates_.find(address.host());
        Way way = fate == fates_.end() ? Way{{}, {}, Duration::zero()} : fate->second;
        const Address any = Address::ip(address.family() == Address::Family::ipv6 ? "::" : "0.0.0.0", address.port())
                                .value_or(Address());
        const bool by_any = !bound_.contains(address) && bound_.contains(any);
        way.to = place(by_any ? any : address);
#if !REACTOR_HAS(ABSTRACT_NAMES)
        // connect(2) says ENOENT without the file, and ECONNREFUSED for an abstract name.
        const std::string file = prefix_ + "/" + (by_any ? any : address).to_string();
        if (!way.refused && ::access(file.c_str(), F_OK) != 0) {
            way.refused = std::make_error_code(std::errc::connection_refused);
        }
#endif
        return way;
    }

    Address place_of(Address& address) override {
        if (address.port() == 0) address = address.with_port(++last_port_);
        bound_.insert(address);
        return place(address);
    }

    Address add(std::string_view host) {
        if (const auto known = addresses_without_look_up(host, 0)) return known->front();
        const auto found = names_.find(host);
        if (found != names_.end()) return found->second;
        if (names_.size() == 254) throw std::length_error("MemoryNetwork: it has 254 names, and no further address");
        const Address address = *Address::ip("192.0.2." + std::to_string(names_.size() + 1), 0);
        names_.emplace(host, address);
        return address;
    }

    // The test's wishes for a name's addresses.
    template <class Change>
    void change(std::string_view host, Change change) {
        for (const Address& address : all_of(host)) {
            Way& way = fates_.try_emplace(address.host(), Way{{}, {}, Duration::zero()}).first->second;
            change(way);
        }
    }
    void forget(std::string_view host) {
        for (const Address& address : all_of(host)) fates_.erase(address.host());
    }

    std::size_t reset(std::string_view host) {
        std::set<std::string> hosts;
        for (const Address& address : all_of(host)) hosts.insert(address.host());
        std::size_t count = 0;
        Internals(reactor).for_each_owned([&](OwnedHandler& handler) {
            auto* const transport = dynamic_cast<Transport*>(&handler);
            if (transport == nullptr) return;
            const bool is_client = hosts.contains(host_at(transport->peer()));
            if (!is_client && !hosts.contains(host_at(transport->local()))) return;
            count += is_client ? 1 : 0;
            transport->abort(std::make_error_code(std::errc::connection_reset));
        });
        return count;
    }

    ManualClock clock;
    Reactor reactor;

private:
    std::vector<Address> all_of(std::string_view host) {
        if (auto known = addresses_without_look_up(host, 0)) return *std::move(known);
        return {add(host)};
    }
    Address place(const Address& address) const {
        return named(prefix_ + "/" + address.to_string());
    }
    // "127.0.0.1", of the place of 127.0.0.1:80; empty for any other address.
    std::string host_at(const Address& place) const {
        const std::string name = place.host();
        const std::size_t begin = name.find(prefix_ + "/");
        if (place.family() != Address::Family::unix_domain || begin == std::string::npos) return {};
        return Address::parse(name.substr(begin + prefix_.size() + 1)).host();
    }

    const std::string prefix_;
    std::map<std::string, Address, std::less<>> names_;
    std::map<std::string, Way, std::less<>> fates_;  // by address without port
    std::set<Address> bound_;
    std::uint16_t last_port_ = 49151;  // the first of those for any use: RFC 6335 6
};

MemoryNetwork::MemoryNetwork(std::string_view backend) : names_(std::make_unique<Names>(backend)) {}

MemoryNetwork::~MemoryNetwork() = default;

Reactor& MemoryNetwork::reactor() noexcept {
    return names_->reactor;
}

const Clock& MemoryNetwork::clock() const noexcept {
    return names_->clock;
}

void MemoryNetwork::settle() {
    // An iteration that finds nothing ready may still close what was aborted before it, and the other side of that is
    // ready in the next one.
    int quiet = 0;
    for (int iteration = 0; iteration < most_iterations; ++iteration) {
        const std::size_t ready = names_->reactor.run_once(Duration::zero());
        quiet = ready == 0 && names_->reactor.next_timeout() != Duration::zero() ? quiet + 1 : 0;
        if (quiet == 2) return;
    }
    throw std::logic_error("MemoryNetwork: there is always something more to do");
}

void MemoryNetwork::advance(Duration time) {
    if (time < Duration::zero()) throw std::invalid_argument("MemoryNetwork::advance: time does not go back");
    settle();
    const TimePoint end = deadline_after(names_->clock.now(), time);
    while (const auto next = names_->reactor.next_timeout()) {
        if (*next > end - names_->clock.now()) break;
        names_->clock.advance(*next);
        settle();
    }
    names_->clock.advance(end - names_->clock.now());
    settle();
}

Address MemoryNetwork::add(std::string_view host) {
    return names_->add(host);
}

void MemoryNetwork::refuse(std::string_view host, std::error_code reason) {
    names_->change(host, [&](Network::Way& way) { way.refused = reason; });
}

void MemoryNetwork::delay(std::string_view host, Duration time) {
    names_->change(host, [&](Network::Way& way) { way.delay = time; });
}

void MemoryNetwork::restore(std::string_view host) {
    names_->forget(host);
}

std::size_t MemoryNetwork::reset(std::string_view host) {
    return names_->reset(host);
}

}  // namespace reactor::testing
