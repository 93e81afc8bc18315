// Files of a folder by HTTP, over the memory transport.
#include "../support/temporary_folder.hpp"
#include "answers.hpp"

#include <protocols/http/server_connection.hpp>
#include <protocols/http/static_files.hpp>
#include <reactor/testing/memory_transport.hpp>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <memory>
#include <string>
#include <system_error>

using namespace reactor;
using namespace reactor::http;

namespace {

/// A folder with a page, a text of ten digits, and things that must not be served.
struct Site {
    Site() {
        ::mkdir(path("sub").c_str(), 0755);
        ::mkdir(path(".well-known").c_str(), 0755);
        write("index.html", "<p>");
        write("digits.txt", "0123456789");
        write("sub/index.html", "<sub>");
        write("sub/a b.json", "{}");
        write(".well-known/x", "known");
        write(".secret", "secret");
        write("../outside", "outside");
        REQUIRE(::symlink("../outside", path("link").c_str()) == 0);
        REQUIRE(::symlink("..", path("up").c_str()) == 0);
        REQUIRE(::mkfifo(path("pipe").c_str(), 0644) == 0);
        service->get("/files/{path...}", static_files(root()));  // the first route that fits is taken
        service->get("/{path...}", static_files(root()));
    }

    std::string root() const { return folder / "root"; }
    std::string path(const std::string& name) {
        ::mkdir(root().c_str(), 0755);
        return root() + "/" + name;
    }
    void write(const std::string& name, std::string_view text) { std::ofstream(path(name)) << text; }

    std::string get(const std::string& target, const std::string& fields = "", const std::string& method = "GET") {
        testing::MemoryTransport client(std::make_unique<ServerConnection>(service));
        client.feed(method + " " + target + " HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n");
        return without_date(client.take());
    }

    TemporaryFolder folder;
    std::shared_ptr<Service> service = std::make_shared<Service>();
};

std::string field(const std::string& answer, const std::string& name) {
    const std::size_t at = answer.find("\r\n" + name + ": ");
    if (at == std::string::npos) return {};
    const std::size_t begin = at + name.size() + 4;
    return answer.substr(begin, answer.find("\r\n", begin) - begin);
}

int status(const std::string& answer) {
    return std::stoi(answer.substr(9, 3));
}

std::string content(const std::string& answer) {
    return answer.substr(answer.find("\r\n\r\n") + 4);
}

}  // namespace

TEST_CASE("a file is answered with its type, its length, and what tells its versions apart") {
    Site site;
    const std::string answer = site.get("/digits.txt");
    CHECK(status(answer) == 200);
    CHECK(content(answer) == "0123456789");
    CHECK(field(answer, "Content-Type") == "text/plain; charset=utf-8");
    CHECK(field(answer, "Content-Length") == "10");
    CHECK(field(answer, "Last-Modified").ends_with(" GMT"));
    const std::string tag = field(answer, "ETag");
    REQUIRE(tag.size() > 3);
    site.write("digits.txt", "012345678");
    CHECK(field(site.get("/digits.txt"), "ETag") != tag);
    CHECK(content(site.get("/")) == "<p>");
    CHECK(content(site.get("/sub/a%20b.json")) == "{}");
    CHECK(content(site.get("/.well-known/x")) == "known");
    CHECK(field(site.get("/sub/"), "Content-Type") == "text/html; charset=utf-8");
    const std::string head = site.get("/digits.txt", "", "HEAD");
    CHECK(field(head, "Content-Length") == "9");
    CHECK(content(head).empty());
}

TEST_CASE("a file's date is written in the form of HTTP, also before 1970 and on a leap day") {
    Site site;
    const auto modified = [&site](std::time_t time) {
        const timespec times[2] = {{time, 0}, {time, 0}};
        REQUIRE(::utimensat(AT_FDCWD, site.path("digits.txt").c_str(), times, 0) == 0);
        return field(site.get("/digits.txt"), "Last-Modified");
    };
    CHECK(modified(784'111'777) == "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110, 5.6.7
    CHECK(modified(951'825'600) == "Tue, 29 Feb 2000 12:00:00 GMT");
    CHECK(modified(1'735'689'599) == "Tue, 31 Dec 2024 23:59:59 GMT");
    CHECK(modified(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
    CHECK(modified(-1) == "Wed, 31 Dec 1969 23:59:59 GMT");
}

TEST_CASE("a large file arrives whole") {
    Site site;
    const std::string large(300'000, 'x');
    site.write("large", large);
    CHECK(content(site.get("/large")) == large);
}

TEST_CASE("a path never leaves the folder, whatever it is written like") {
    Site site;
    for (const char* target : {"/../outside",
                               "/sub/../../outside",
                               "/%2e%2e/outside",
                               "/..%2foutside",
                               "/%2e%2e%2foutside",
                               "/link",
                               "/up/outside",
                               "/sub//index.html",
                               "//etc/passwd",
                               "/./index.html",
                               "/.secret",
                               "/sub/.",
                               "/pipe",
                               "/absent",
                               "/digits.txt/",
                               "/digits.txt/x",
                               "/%00",
                               "/sub/..",
                               "/files/../outside",
                               "/files//etc/passwd"}) {
        CAPTURE(target);
        CHECK(status(site.get(target)) == 404);
    }
}

TEST_CASE("a folder without a slash is redirected to its own path, never to another server") {
    Site site;
    const std::string answer = site.get("/sub?x=1");
    CHECK(status(answer) == 301);
    CHECK(field(answer, "Location") == "/sub/?x=1");
    CHECK(field(site.get("/files/sub"), "Location") == "/files/sub/");
    CHECK(field(site.get("http://other/sub"), "Location") == "/sub/");
}

TEST_CASE("a client that has the file already gets 304") {
    Site site;
    const std::string answer = site.get("/digits.txt");
    const std::string tag = field(answer, "ETag"), date = field(answer, "Last-Modified");
    for (const std::string& fields : {"If-None-Match: " + tag + "\r\n", "If-None-Match: \"x\", W/" + tag + ",\"y\"\r\n",
                                      std::string("If-None-Match: *\r\n"), "If-Modified-Since: " + date + "\r\n"}) {
        CAPTURE(fields);
        const std::string again = site.get("/digits.txt", fields);
        CHECK(status(again) == 304);
        CHECK(content(again).empty());
        CHECK(field(again, "ETag") == tag);
    }
    for (const std::string& fields :
         {std::string("If-None-Match: \"x\"\r\n"), "If-None-Match: \"x" + tag.substr(1) + "\r\n",
          "If-None-Match: \"x\"\r\nIf-Modified-Since: " + date + "\r\n",
          std::string("If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n")}) {
        CAPTURE(fields);
        CHECK(status(site.get("/digits.txt", fields)) == 200);
    }
}

TEST_CASE("a part of a file is answered with 206 and its place") {
    Site site;
    struct Part {
        const char* range;
        int status;
        const char* place;
        const char* content;
    };
    for (const Part& part : {Part{"bytes=2-4", 206, "bytes 2-4/10", "234"},
                             {"bytes=8-", 206, "bytes 8-9/10", "89"},
                             {"bytes=8-100", 206, "bytes 8-9/10", "89"},
                             {"bytes=-3", 206, "bytes 7-9/10", "789"},
                             {"bytes=-30", 206, "bytes 0-9/10", "0123456789"},
                             {"BYTES=0-0", 206, "bytes 0-0/10", "0"},
                             {"bytes=10-", 416, "bytes */10", "range not satisfiable\n"},
                             {"bytes=-0", 416, "bytes */10", "range not satisfiable\n"},
                             {"bytes=4-2", 200, "", "0123456789"},
                             {"bytes=0-1,3-4", 200, "", "0123456789"},
                             {"lines=0-1", 200, "", "0123456789"},
                             {"bytes=", 200, "", "0123456789"},
                             {"bytes=x-1", 200, "", "0123456789"},
                             {"bytes=-", 200, "", "0123456789"},
                             {"bytes=99999999999999999999-", 200, "", "0123456789"}}) {
        CAPTURE(part.range);
        const std::string answer = site.get("/digits.txt", "Range: " + std::string(part.range) + "\r\n");
        CHECK(status(answer) == part.status);
        CHECK(field(answer, "Content-Range") == part.place);
        CHECK(content(answer) == part.content);
    }
    const std::string tag = field(site.get("/digits.txt"), "ETag");
    CHECK(status(site.get("/digits.txt", "Range: bytes=2-4\r\nIf-Range: " + tag + "\r\n")) == 206);
    CHECK(status(site.get("/digits.txt", "Range: bytes=2-4\r\nIf-Range: \"x\"\r\n")) == 200);
}

TEST_CASE("a root that cannot be opened throws an error that names it") {
    try {
        (void)static_files("/nowhere/at all");
        FAIL("it was opened");
    } catch (const std::system_error& error) {
        CHECK(error.code() == std::errc::no_such_file_or_directory);
        CHECK(std::string(error.what()).find("/nowhere/at all") != std::string::npos);
    }
}

TEST_CASE("media types are found by the extension, whatever its case") {
    CHECK(media_type("a.HTML") == "text/html; charset=utf-8");
    CHECK(media_type("a.tar.gz") == "application/gzip");
    CHECK(media_type("README") == "application/octet-stream");
    CHECK(media_type("x.unknown") == "application/octet-stream");
}
