#include <protocols/http/url.hpp>

#include <doctest/doctest.h>

using namespace reactor::http;

namespace {

std::string read(std::string_view text) {
    const auto url = parse_url(text);
    return url ? url->to_string() : "";
}

std::string from(std::string_view base, std::string_view reference) {
    const auto url = parse_url(reference, *parse_url(base));
    return url ? url->to_string() : "";
}

}  // namespace

TEST_CASE("a URL is read into its parts") {
    const auto url = parse_url("HTTPS://Example.COM:8443/a%20b?c=d#e");
    REQUIRE(url);
    CHECK(url->secure);
    CHECK(url->host == "example.com");
    CHECK(url->port == 8443);
    CHECK(url->target == "/a%20b?c=d");
    CHECK(url->authority() == "example.com:8443");
    CHECK(parse_url("http://[::1]:8080")->host == "::1");
    CHECK(read("http://[::1]:8080") == "http://[::1]:8080/");
    CHECK(read("http://a:80?x") == "http://a/?x");
    CHECK(read("https://a:443") == "https://a/");
    CHECK(read("https://a:80") == "https://a:80/");
    CHECK(read("http://a:/") == "http://a/");
    CHECK(read("http://a/\xc3\xa4") == "http://a/%C3%A4");
}

TEST_CASE("what is no http URL, or could be read in two ways, is refused") {
    for (const char* text : {"",
                             "http",
                             "http:",
                             "http:a",
                             "http:/a",
                             "http://",
                             "http:///a",
                             "http://:80/",
                             "http://a:b/",
                             "http://a:0/",
                             "http://a:65536/",
                             "http://a:80:80/",
                             "http://user@a/",
                             "http://u:p@a/",
                             "http://a b/",
                             "http://a/b c",
                             "http://a/\x01",
                             "http://a/<b>",
                             "http://[::1/",
                             "http://[]/",
                             "http://a%2eb/",
                             "http://\xc3\xa4/",
                             "ftp://a/",
                             "//a/",
                             "/a",
                             "a"}) {
        CAPTURE(text);
        CHECK_FALSE(parse_url(text));
    }
}

TEST_CASE("a reference is resolved against its base (RFC 3986, 5.4)") {
    const char* const base = "http://a/b/c/d;p?q";
    const std::pair<const char*, const char*> cases[] = {
        {"http://g", "http://g/"},
        {"g", "http://a/b/c/g"},
        {"./g", "http://a/b/c/g"},
        {"g/", "http://a/b/c/g/"},
        {"/g", "http://a/g"},
        {"//g", "http://g/"},
        {"?y", "http://a/b/c/d;p?y"},
        {"g?y", "http://a/b/c/g?y"},
        {"#s", "http://a/b/c/d;p?q"},
        {"g#s", "http://a/b/c/g"},
        {";x", "http://a/b/c/;x"},
        {"", "http://a/b/c/d;p?q"},
        {".", "http://a/b/c/"},
        {"./", "http://a/b/c/"},
        {"..", "http://a/b/"},
        {"../", "http://a/b/"},
        {"../g", "http://a/b/g"},
        {"../..", "http://a/"},
        {"../../g", "http://a/g"},
        {"../../../g", "http://a/g"},
        {"/./g", "http://a/g"},
        {"/../g", "http://a/g"},
        {"g.", "http://a/b/c/g."},
        {"..g", "http://a/b/c/..g"},
        {"./../g", "http://a/b/g"},
        {"./g/.", "http://a/b/c/g/"},
        {"g/./h", "http://a/b/c/g/h"},
        {"g/../h", "http://a/b/c/h"},
        {"g?y/../x", "http://a/b/c/g?y/../x"},
        {"g?y/./x", "http://a/b/c/g?y/./x"},
    };
    for (const auto& each : cases) {
        CAPTURE(each.first);
        CHECK(from(base, each.first) == each.second);
    }
    CHECK(from("http://a", "b") == "http://a/b");
    CHECK(from("http://a", "mailto:b") == "");
    CHECK(from("https://a/b", "//c:8/d") == "https://c:8/d");
}
