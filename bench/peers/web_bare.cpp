// The floor of HTTP/1.1 and WebSocket: "Hello, World!" at / and an echo at /socket, written by hand on epoll for these
// two alone. One recv, every request and frame in it read strictly (RFC 9112, RFC 6455), one send for all the answers,
// whose Date is made once a second. It has no routes, no handlers, no limits by time, and no answer that comes later.
#include "listen.hpp"
#include "unmask.hpp"

#include <openssl/evp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Peer {
    int descriptor = -1;
    bool websocket = false, closes = false, waits = false, in_message = false, text = false;
    bench::Utf8 utf8;
    std::string begun;  // a request or a frame that is not all there
    std::string rest;   // of the answers, which could not be sent at once
};

constexpr std::size_t capacity = 64 * 1024,
                      spare = 32;  // behind what was received is a zero, at which every scan stops
std::vector<char> input(capacity + spare);
std::vector<char> output(8 * capacity);  // of HTTP, more than any answers take; frames are sent from where they came
std::size_t written = 0;
std::string answer;
int epoll = -1;

// ── HTTP ──

constexpr auto table_of(std::string_view besides, bool letters) {
    std::array<bool, 256> table{};
    for (int c = 0; c < 256; ++c)
        table[std::size_t(c)] = letters && ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'));
    for (const char c : besides) table[static_cast<unsigned char>(c)] = true;
    return table;
}
constexpr auto token = table_of("!#$%&'*+-.^_`|~", true);
constexpr auto in_target = table_of("-._~!$&'()*+,;=:@/?%", true);
constexpr auto in_host = table_of("-._~!$&'()*+,;=:[]%", true);

bool is(const std::array<bool, 256>& table, char c) {
    return table[static_cast<unsigned char>(c)];
}

const char* past(const std::array<bool, 256>& table, const char* at) {
    while (is(table, *at)) ++at;
    return at;
}

// At the first byte that no value of a field may hold.
const char* past_value(const char* at) {
#ifdef __SSE2__
    for (;; at += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
        const __m128i low = _mm_cmpeq_epi8(_mm_min_epu8(bytes, _mm_set1_epi8(0x1F)), bytes);
        const int stops =
            _mm_movemask_epi8(_mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(bytes, _mm_set1_epi8('\t')), low),
                                           _mm_cmpeq_epi8(bytes, _mm_set1_epi8(0x7F))));
        if (stops != 0) return at + __builtin_ctz(unsigned(stops));
    }
#else
    while (*at == '\t' || (static_cast<unsigned char>(*at) >= ' ' && *at != 0x7F)) ++at;
    return at;
#endif
}

// At the first byte that is no letter, digit or "-", as names seldom hold others; then those by the table.
const char* past_name(const char* at) {
#ifdef __SSE2__
    const auto within = [](__m128i bytes, char first, char last) {
        return _mm_and_si128(_mm_cmpgt_epi8(bytes, _mm_set1_epi8(char(first - 1))),
                             _mm_cmplt_epi8(bytes, _mm_set1_epi8(char(last + 1))));
    };
    for (;; at += 16) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
        const __m128i lower = _mm_or_si128(bytes, _mm_set1_epi8(0x20));
        const __m128i good = _mm_or_si128(_mm_or_si128(within(lower, 'a', 'z'), within(bytes, '0', '9')),
                                          _mm_cmpeq_epi8(bytes, _mm_set1_epi8('-')));
        const int stops = _mm_movemask_epi8(good) ^ 0xFFFF;
        if (stops == 0) continue;
        at += __builtin_ctz(unsigned(stops));
        break;
    }
    if (*at == ':') return at;
#endif
    return past(token, at);
}

// Is it the word, which is given in lower case? Of tokens only letters and "-" are in the words.
template <std::size_t N>
bool same(std::string_view text, const char (&word)[N]) {
    if (text.size() != N - 1) return false;
    unsigned char difference = 0;
    for (std::size_t i = 0; i < N - 1; ++i) difference |= static_cast<unsigned char>((text[i] | 0x20) ^ word[i]);
    return difference == 0;
}

template <std::size_t N>
bool begins(const char* at, const char (&text)[N]) {
    return std::memcmp(at, text, N - 1) == 0;
}

struct Fields {
    unsigned hosts = 0;
    bool close = false, upgrade = false, websocket = false, version_13 = false;
    std::size_t lengths = 0, content = 0;
    std::string_view key;
};

template <std::size_t N>
bool has_word(std::string_view list, const char (&word)[N]) {
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        std::string_view one = list.substr(0, comma);
        list.remove_prefix(std::min(comma + 1, list.size()));
        while (!one.empty() && (one.front() == ' ' || one.front() == '\t')) one.remove_prefix(1);
        while (!one.empty() && (one.back() == ' ' || one.back() == '\t')) one.remove_suffix(1);
        if (same(one, word)) return true;
    }
    return false;
}

// False if the request may not be answered but by an error.
bool note(Fields& fields, std::string_view name, std::string_view value) {
    switch (name.size()) {
        case 4:
            if (!same(name, "host")) return true;
            return ++fields.hosts == 1 && !value.empty() && past(in_host, value.data()) >= value.data() + value.size();
        case 6: return !same(name, "expect");
        case 7:
            if (same(name, "upgrade")) fields.websocket = has_word(value, "websocket");
            return true;
        case 10:
            if (!same(name, "connection")) return true;
            fields.close = fields.close || has_word(value, "close");
            fields.upgrade = fields.upgrade || has_word(value, "upgrade");
            return true;
        case 14:
            if (!same(name, "content-length")) return true;
            for (const char c : value) {
                if (c < '0' || c > '9' || fields.content > capacity) return false;
                fields.content = fields.content * 10 + std::size_t(c - '0');
            }
            return ++fields.lengths == 1 && !value.empty();
        case 17:
            if (same(name, "sec-websocket-key")) fields.key = value;
            return !same(name, "transfer-encoding");
        case 21:
            if (same(name, "sec-websocket-version")) fields.version_13 = value == "13";
            return true;
        default: return true;
    }
}

void write(std::string_view text) {
    std::memcpy(output.data() + written, text.data(), text.size());
    written += text.size();
}

const char* refuse(Peer& peer, const char* end, std::string_view status = "400 Bad Request") {
    write("HTTP/1.1 ");
    write(status);
    write("\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    peer.closes = true;
    return end;
}

void accept_websocket(Peer& peer, std::string_view key) {
    const std::string text = std::string(key) + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
    unsigned size = 0;
    EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr);
    std::array<unsigned char, 64> encoded;
    const int length = EVP_EncodeBlock(encoded.data(), digest.data(), int(size));
    write("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ");
    write({reinterpret_cast<const char*>(encoded.data()), std::size_t(length)});
    write("\r\n\r\n");
    peer.websocket = true;
}

// Reads a request that begins there, and answers it. Where the next one begins; the same place if it is not all there.
const char* request(Peer& peer, const char* const begin, const char* const end) {
    const auto stop = [&](const char* at) { return at >= end ? begin : refuse(peer, end); };

    const char* const target = past(token, begin) + 1;
    if (target[-1] != ' ' || target - 1 == begin) return stop(target - 1);
    const char* at = past(in_target, target);
    if (*at != ' ' || *target != '/') return stop(*at != ' ' ? at : target);
    const std::string_view path(target, std::size_t(at - target));
    if (end - at < 11) return begin;
    if (!begins(at, " HTTP/1.") || !begins(at + 8, "1\r\n")) return refuse(peer, end);
    at += 11;

    Fields fields;
    while (*at != '\r') {
        const char* const name = at;
        at = past_name(at);
        if (*at != ':' || at == name) return stop(at);
        const std::string_view field(name, std::size_t(at - name));
        do ++at;
        while (*at == ' ' || *at == '\t');
        const char* const value = at;
        at = past_value(at);
        if (*at != '\r') return stop(at);
        if (at[1] != '\n') return stop(at + 1);
        const char* last = at;
        while (last > value && (last[-1] == ' ' || last[-1] == '\t')) --last;
        if (!note(fields, field, {value, std::size_t(last - value)})) return refuse(peer, end);
        at += 2;
    }
    if (at[1] != '\n') return stop(at + 1);
    at += 2;
    if (fields.hosts != 1) return refuse(peer, end);
    if (fields.content > std::size_t(end - at)) return begin;
    at += fields.content;

    if (fields.close) peer.closes = true;
    if (target - begin != 4 || !begins(begin, "GET")) return refuse(peer, end, "405 Method Not Allowed");
    if (path.size() == 1) {
        write(answer);
    } else if (path != "/socket") {
        write("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    } else {
        if (!fields.upgrade || !fields.websocket || !fields.version_13 || fields.key.size() != 24)
            return refuse(peer, end);
        accept_websocket(peer, fields.key);
    }
    return at;
}

void make_answer(std::time_t now) {
    char date[32];
    std::tm parts{};
    ::gmtime_r(&now, &parts);
    const std::size_t length = std::strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
    answer = "HTTP/1.1 200 OK\r\nDate: " + std::string(date, length) +
             "\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 13\r\n\r\nHello, World!";
}

// ── WebSocket ──

// Reads a frame and leaves its echo at `echo`, which it moves. Where the next one begins; the same place if it is not
// all there; nullptr if the connection fails.
const char* frame(Peer& peer, const char* const begin, const char* const end, char*& echo) {
    const auto left = std::size_t(end - begin);
    const auto* const head = reinterpret_cast<const unsigned char*>(begin);
    if (left < 6) return begin;
    const bool last = head[0] & 0x80, control = head[0] & 0x08;
    const unsigned kind = head[0] & 0x0F;
    std::size_t size = head[1] & 0x7F, before = 2;
    if (head[0] & 0x70 || !(head[1] & 0x80)) return nullptr;
    if (control ? kind > 10 || !last || size > 125 : kind > 2 || (kind == 0) != peer.in_message) return nullptr;
    if (size == 126) {
        size = std::size_t(head[2]) << 8 | head[3];
        before = 4;
        if (size < 126) return nullptr;
    } else if (size == 127) {
        return nullptr;  // longer than what is received at a time
    }
    if (left < before + 4 + size) return begin;
    if (kind == 1 || kind == 2) peer.text = kind == 1;
    if (!control) peer.in_message = !last;

    auto* const into = reinterpret_cast<unsigned char*>(echo);
    bench::Utf8* const text = peer.text && !control ? &peer.utf8 : nullptr;
    const unsigned char first = kind == 9 ? 0x8A : head[0], second = head[1] & 0x7F;
    const unsigned char high = head[2], low = head[3];
    if (!bench::unmask(head + before + 4, size, head + before, into + before, text)) return nullptr;
    if (text != nullptr && last && text->missing > 0) return nullptr;
    if (kind == 10) return begin + before + 4 + size;  // a pong
    into[0] = first, into[1] = second;
    if (before == 4) into[2] = high, into[3] = low;
    echo += before + size;
    if (kind == 8) peer.closes = true;
    return begin + before + 4 + size;
}

// ── the connection ──

void watch(Peer& peer, bool waits) {
    if (peer.waits == waits) return;
    peer.waits = waits;
    epoll_event event{};
    event.events = waits ? EPOLLOUT : EPOLLIN;
    event.data.ptr = &peer;
    ::epoll_ctl(epoll, EPOLL_CTL_MOD, peer.descriptor, &event);
}

// False if the connection is over.
bool send(Peer& peer, const char* data, std::size_t size) {
    if (size == 0) return !peer.closes;
    const ssize_t sent = ::send(peer.descriptor, data, size, MSG_NOSIGNAL);
    if (sent == ssize_t(size)) return !peer.closes;
    if (sent < 0 && errno != EAGAIN) return false;
    peer.rest.assign(data + std::max<ssize_t>(sent, 0), data + size);
    watch(peer, true);
    return true;
}

bool send_rest(Peer& peer) {
    const ssize_t sent = ::send(peer.descriptor, peer.rest.data(), peer.rest.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;
    peer.rest.erase(0, std::size_t(sent));
    if (!peer.rest.empty()) return true;
    watch(peer, false);
    return !peer.closes;
}

bool serve(Peer& peer) {
    const std::size_t before = peer.begun.size();
    std::memcpy(input.data(), peer.begun.data(), before);
    const ssize_t received = ::recv(peer.descriptor, input.data() + before, capacity - before, 0);
    if (received <= 0) return received < 0 && errno == EAGAIN;
    const char* const end = input.data() + before + std::size_t(received);
    input[before + std::size_t(received)] = 0;
    const char* at = input.data();
    char* echo = input.data();
    written = 0;
    while (at < end && !peer.closes && (written == 0 || !peer.websocket)) {  // a client waits for its 101
        const char* const next = peer.websocket ? frame(peer, at, end, echo) : request(peer, at, end);
        if (next == at) break;
        if (next == nullptr) return false;
        at = next;
    }
    peer.begun.assign(at, end);
    if (peer.begun.size() == capacity) return false;
    return written == 0 ? send(peer, input.data(), std::size_t(echo - input.data()))
                        : send(peer, output.data(), written);
}

}  // namespace

int main(int count, char** arguments) {
    const int listener = bench::listen_as_told(count, arguments, "bare HTTP and WebSocket");
    epoll = ::epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    std::array<epoll_event, 256> events;
    std::time_t made = 0;
    for (;;) {
        const int ready = ::epoll_wait(epoll, events.data(), int(events.size()), -1);
        const std::time_t now = std::time(nullptr);
        if (now != made) make_answer(made = now);
        for (int i = 0; i < ready; ++i) {
            auto* const peer = static_cast<Peer*>(events[std::size_t(i)].data.ptr);
            if (peer == nullptr) {
                const int descriptor = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
                if (descriptor < 0) continue;
                bench::no_delay(descriptor);
                auto* const opened = new Peer;
                opened->descriptor = descriptor;
                event.data.ptr = opened;
                ::epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event);
                continue;
            }
            if (peer->waits ? send_rest(*peer) : serve(*peer)) continue;
            ::close(peer->descriptor);
            delete peer;
        }
    }
}
