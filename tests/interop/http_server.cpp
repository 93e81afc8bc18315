// Answers every HTTP request with the same three bytes. A request is what ends in an empty line, which holds for those
// without a body: enough for wrk to show that a delimiter of four bytes is found.
#include "serve.hpp"

#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>

using namespace reactor;

namespace {

class Answer final : public Framed<Delimited> {
public:
    Answer() : Framed(Delimited("\r\n\r\n", 16 * 1024)) {}

private:
    void message(Bytes) override {
        send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3");
        transport().write("ok\n");
    }
};

}  // namespace

int main() {
    return interop::serve(factory<Answer>());
}
