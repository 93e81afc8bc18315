// The choice of a backend by its name.
#include <reactor/demultiplexer.hpp>
#include <reactor/system_impl.hpp>

#include <array>
#include <cstdlib>
#include <string>
#include <system_error>

namespace reactor {

std::unique_ptr<Demultiplexer> make_epoll();
std::unique_ptr<Demultiplexer> make_kqueue();
std::unique_ptr<Demultiplexer> make_poll();
std::unique_ptr<Demultiplexer> make_select();
std::unique_ptr<Demultiplexer> make_uring();
bool ring_is_allowed() noexcept;

namespace {

struct Backend {
    std::string_view name;
    std::unique_ptr<Demultiplexer> (*make)();
    bool (*usable)() noexcept = nullptr;  // null: on every kernel
};

// The best one first. A new backend is a file in backends/, its declaration above and its line here.
constexpr Backend all_backends[] = {
#if REACTOR_HAS(EPOLL)
    {"epoll", make_epoll},
#endif
#if REACTOR_HAS(IO_URING)
    {"io_uring", make_uring, ring_is_allowed},
#endif
#if REACTOR_HAS(KQUEUE)
    {"kqueue", make_kqueue},
#endif
    {"poll", make_poll},
    {"select", make_select},
};

}  // namespace

std::span<const std::string_view> available_backends() noexcept {
    struct Names {
        std::array<std::string_view, std::size(all_backends)> list;
        std::size_t count = 0;
    };
    static const Names names = [] {
        Names result;
        for (const Backend& backend : all_backends)
            if (backend.usable == nullptr || backend.usable()) result.list[result.count++] = backend.name;
        return result;
    }();
    return {names.list.data(), names.count};
}

std::unique_ptr<Demultiplexer> make_demultiplexer(std::string_view name) {
    std::string source = "backend";
    if (name == "auto") {
        const char* environment = std::getenv("REACTOR_BACKEND");
        if (environment != nullptr && *environment != '\0') {
            name = environment;
            source = "REACTOR_BACKEND";
        }
        if (name == "auto") return all_backends[0].make();
    }
    for (const Backend& backend : all_backends)
        if (backend.name == name) return backend.make();
    std::string message = source + " '" + std::string(name) + "' is not available here; choose auto";
    for (const std::string_view other : available_backends()) message.append(", ").append(other);
    throw std::system_error(std::make_error_code(std::errc::invalid_argument), message);
}

}  // namespace reactor
