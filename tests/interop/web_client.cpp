// A client of HTTP for other people's servers: asks in every way, one request after the other on one kept connection,
// and compares the answers: web_client URL. The server answers "/" with "hello\n" and "/parts" with the numbers
// below 1000, sends back the content for "/echo", and knows nothing else.
#include <protocols/http/client.hpp>
#include <reactor/reactor.hpp>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

using namespace reactor;

namespace {

struct Step {
    http::ClientRequest request;
    int status = 200;
    std::string content;
};

std::string numbers() {
    std::string text;
    for (int number = 0; number < 1000; ++number) text += std::to_string(number) + "\n";
    return text;
}

std::vector<Step> steps(const std::string& url) {
    const std::string large(1'000'000, 'x');
    return {
        {{.url = url + "/"}, 200, "hello\n"},
        {{.url = url + "/parts"}, 200, numbers()},
        {{.method = "HEAD", .url = url + "/"}, 200, ""},
        {{.method = "POST", .url = url + "/echo", .content = "small"}, 200, "small"},
        {{.method = "PUT", .url = url + "/echo", .content = large}, 200, large},
        {{.method = "POST", .url = url + "/echo", .content = large, .expects_continue = true}, 200, large},
        {{.method = "POST", .url = url + "/echo", .in_parts = true}, 200, numbers()},
        {{.url = url + "/absent"}, 404, ""},
    };
}

class Asking {
public:
    Asking(http::Client& client, std::vector<Step> its_steps, std::function<void()> done)
        : client_(client), steps_(std::move(its_steps)), done_(std::move(done)) {}

    void ask() {
        if (answers_ == steps_.size()) return done_();
        const Step& step = steps_[answers_];
        call_ = client_.send(step.request, [this, &step](std::error_code error, const http::Response& response) {
            if (error || response.status() != step.status || (step.status < 400 && response.content() != step.content))
                return done_();
            ++answers_;
            ask();
        });
        if (step.request.in_parts) call_.on_writable([this] { send_parts(); });
    }

    std::size_t answers() const { return answers_; }
    bool all() const { return answers_ == steps_.size(); }

private:
    void send_parts() {
        for (int number = 0; number < 1000; ++number) call_.write(std::to_string(number) + "\n");
        call_.end();
    }

    http::Client& client_;
    std::vector<Step> steps_;
    std::function<void()> done_;
    std::size_t answers_ = 0;
    http::Call call_;
};

}  // namespace

int main(int count, char** words) {
    if (count != 2) return EXIT_FAILURE;
    Reactor reactor;
    http::Client client(reactor, {.connections = 1});
    Asking asking(client, steps(words[1]), [&] { reactor.stop(); });
    asking.ask();
    reactor.run();
    std::printf("%zu answers\n", asking.answers());
    return asking.all() ? EXIT_SUCCESS : EXIT_FAILURE;
}
