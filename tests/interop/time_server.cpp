// A time server (RFC 868), for rdate.
#include "serve.hpp"

#include <protocols/examples/time.hpp>

using namespace reactor;

int main() {
    return interop::serve(factory<Time>());
}
