// static_files: a handler that answers with the files of a folder. The kernel moves their bytes
// (Transport::write_file).
#pragma once

#include <protocols/http/service.hpp>
#include <reactor/export.hpp>

#include <string>
#include <string_view>

namespace reactor::http {

/// A handler for a route that ends in `{path...}`: `server.get("/{path...}", http::static_files("public"))`. It answers
/// with the regular file of that path below `root`, with its type by its name, ETag and Last-Modified, and with a part
/// of it for a Range of one part (RFC 9110, 14). A path that ends in "/" gets `index.html` there; a folder without the
/// "/" is redirected to the path with it. All else is answered with 404: a name that begins with ".", apart from
/// `.well-known`, a symbolic link, a device, a file that may not be read.
///
/// A path never leaves the root: each part of it is opened in the folder of the part before, without following links.
/// Reading a file that the kernel does not have in memory waits for the disk, and the loop with it.
///
/// Errors: throws std::system_error if `root` cannot be opened (open(2)). Lifetime: keeps the folder open, also if it
/// is renamed.
REACTOR_EXPORT Handler static_files(const std::string& root);

/// The media type for a file of that name: "text/html; charset=utf-8" for "index.html", "application/octet-stream" for
/// an extension that is not known. Lifetime: static.
REACTOR_EXPORT std::string_view media_type(std::string_view file_name) noexcept;

}  // namespace reactor::http
