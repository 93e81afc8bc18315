// Which loop has a network of its own. Asked for when a connector or an acceptor begins, and never for a message: so it
// is a list here, and not a member of every loop.
#include <reactor/net/detail/network.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <utility>

namespace reactor {

namespace {

struct Known {
    std::atomic<std::size_t> count{0};  // so that a program without any takes no lock
    std::mutex mutex;
    std::vector<std::pair<const Reactor*, Network*>> all;
};

Known& known() {
    static Known known;
    return known;
}

}  // namespace

Network* Network::of(const Reactor& reactor) noexcept {
    Known& networks = known();
    if (networks.count == 0) return nullptr;
    const std::lock_guard lock(networks.mutex);
    const auto found = std::find_if(networks.all.begin(), networks.all.end(),
                                    [&](const auto& each) { return each.first == &reactor; });
    return found == networks.all.end() ? nullptr : found->second;
}

Network::Network(const Reactor& reactor) {
    Known& networks = known();
    const std::lock_guard lock(networks.mutex);
    networks.all.emplace_back(&reactor, this);
    ++networks.count;
}

Network::~Network() {
    Known& networks = known();
    const std::lock_guard lock(networks.mutex);
    std::erase_if(networks.all, [&](const auto& each) { return each.second == this; });
    --networks.count;
}

}  // namespace reactor
