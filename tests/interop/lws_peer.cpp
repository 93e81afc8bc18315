// libwebsockets at the other end: lws_peer server prints `listening on ADDRESS:PORT (libwebsockets)` and sends each
// message back; lws_peer PORT asks /socket of that server, and expects messages of every form of length back.
#include <libwebsockets.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace {

const std::vector<std::size_t> sizes = {0, 1, 125, 126, 65535, 65536, 1000000};

struct Message {
    std::string content = std::string(LWS_PRE, '\0');  // it is written from behind a gap for the head of the frame
    bool binary = false;
    bool whole = false;
};

std::map<lws*, Message> messages;
std::size_t came = 0;
bool over = false;

// Adds a part. True if the message is whole.
bool gather(lws* socket, const void* part, std::size_t size) {
    Message& message = messages[socket];
    message.content.append(static_cast<const char*>(part), size);
    message.binary = lws_frame_is_binary(socket) != 0;
    message.whole = lws_is_final_fragment(socket) != 0 && lws_remaining_packet_payload(socket) == 0;
    return message.whole;
}

int write(lws* socket, Message& message) {
    const auto kind = message.binary ? LWS_WRITE_BINARY : LWS_WRITE_TEXT;
    auto* const content = reinterpret_cast<unsigned char*>(message.content.data()) + LWS_PRE;
    return lws_write(socket, content, message.content.size() - LWS_PRE, kind) < 0 ? -1 : 0;
}

Message next() {
    Message message;
    message.content.append(sizes[came / 2], came % 2 == 0 ? 'x' : '\xff');
    message.binary = came % 2 != 0;
    return message;
}

int served(lws* socket, lws_callback_reasons reason, void*, void* in, std::size_t size) {
    if (reason == LWS_CALLBACK_RECEIVE && gather(socket, in, size)) lws_callback_on_writable(socket);
    if (reason == LWS_CALLBACK_SERVER_WRITEABLE && messages[socket].whole) {
        Message message = std::exchange(messages[socket], Message());
        return write(socket, message);
    }
    if (reason == LWS_CALLBACK_CLOSED) messages.erase(socket);
    return 0;
}

int asked(lws* socket, lws_callback_reasons reason, void*, void* in, std::size_t size) {
    static bool may_send = true;  // it is said to be writable more often than it was asked
    if (reason == LWS_CALLBACK_CLIENT_ESTABLISHED) lws_callback_on_writable(socket);
    if (reason == LWS_CALLBACK_CLIENT_WRITEABLE && std::exchange(may_send, false)) {
        if (came < 2 * sizes.size()) {
            Message message = next();
            return write(socket, message);
        }
        lws_close_reason(socket, LWS_CLOSE_STATUS_NORMAL, nullptr, 0);
        return -1;
    }
    if (reason == LWS_CALLBACK_CLIENT_RECEIVE && gather(socket, in, size)) {
        const Message expected = next();
        if (messages[socket].content != expected.content || messages[socket].binary != expected.binary) return -1;
        ++came;
        may_send = true;
        messages.erase(socket);
        lws_callback_on_writable(socket);
    }
    over = over || reason == LWS_CALLBACK_CLIENT_CLOSED || reason == LWS_CALLBACK_CLIENT_CONNECTION_ERROR;
    return 0;
}

}  // namespace

int main(int count, char** words) {
    if (count != 2) return EXIT_FAILURE;
    const bool serves = std::string(words[1]) == "server";
    lws_set_log_level(LLL_ERR, nullptr);
    std::vector<lws_protocols> protocols(2);
    protocols[0].name = "echo";
    protocols[0].callback = serves ? served : asked;
    protocols[0].rx_buffer_size = 65536;

    lws_context_creation_info info = {};
    info.port = serves ? 0 : CONTEXT_PORT_NO_LISTEN;
    info.iface = "127.0.0.1";
    info.protocols = protocols.data();
    info.vhost_name = "localhost";
    lws_context* const context = lws_create_context(&info);
    if (context == nullptr) return EXIT_FAILURE;
    if (serves) {
        std::printf("listening on 127.0.0.1:%d (libwebsockets)\n",
                    lws_get_vhost_listen_port(lws_get_vhost_by_name(context, "localhost")));
        std::fflush(stdout);
    } else {
        lws_client_connect_info to = {};
        to.context = context;
        to.address = to.host = "127.0.0.1";
        to.port = std::atoi(words[1]);
        to.path = "/socket";
        to.local_protocol_name = "echo";
        lws_client_connect_via_info(&to);
    }
    while (!over && lws_service(context, 0) >= 0) {
    }
    lws_context_destroy(context);
    if (!serves) std::printf("%zu messages\n", came);
    return came == 2 * sizes.size() ? EXIT_SUCCESS : EXIT_FAILURE;
}
