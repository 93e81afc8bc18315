// Answers Redis's inline PING: enough for redis-benchmark to show that lines are separated, however many come at once.
#include "serve.hpp"

#include <protocols/framing/delimited.hpp>
#include <protocols/framing/framed.hpp>

using namespace reactor;

namespace {

class Ping final : public Framed<Lines> {
    void message(Bytes line) override { send(text_of(line) == "PING" ? "+PONG" : "-ERR only PING is known here"); }
};

}  // namespace

int main() {
    return interop::serve(factory<Ping>());
}
