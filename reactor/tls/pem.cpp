#include <reactor/file_descriptor.hpp>
#include <reactor/tls/pem_impl.hpp>

#include <openssl/err.h>
#include <openssl/pem.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <new>
#include <string>
#include <system_error>

namespace reactor {

namespace {

std::string text_of_file(const std::string& path) {
    const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file) throw std::system_error(errno, std::system_category(), "TlsContext: open(" + path + ")");
    std::string text;
    char piece[16 * 1024];
    for (;;) {
        const ssize_t count = ::read(file.get(), piece, sizeof piece);
        if (count == 0) return text;
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) throw std::system_error(errno, std::system_category(), "TlsContext: read(" + path + ")");
        text.append(piece, std::size_t(count));
    }
}

std::string text_in(const Pem& pem) {
    return pem.is_file() ? text_of_file(pem.value()) : pem.value();
}

BioPointer reader_of(const std::string& text) {
    BioPointer reader(BIO_new_mem_buf(text.data(), int(std::min<std::size_t>(text.size(), INT_MAX))));
    if (reader == nullptr) throw std::bad_alloc();
    return reader;
}

// In place of OpenSSL's own, which would ask the terminal.
int no_password(char*, int, int, void* asked) {
    *static_cast<bool*>(asked) = true;
    return -1;
}

// PEM_R_NO_START_LINE behind the last object is no error, and in front of the first it says that there is none.
template <class Pointer, class Read>
std::vector<Pointer> all_in(const Pem& pem, const char* what, Read read) {
    const std::string text = text_in(pem);
    const BioPointer reader = reader_of(text);
    std::vector<Pointer> result;
    while (Pointer object{read(reader.get())}) result.push_back(std::move(object));
    const unsigned long last = ERR_peek_last_error();
    const bool no_more = ERR_GET_LIB(last) == ERR_LIB_PEM && ERR_GET_REASON(last) == PEM_R_NO_START_LINE;
    const std::error_code error = take_openssl_error();
    if (result.empty() && no_more)
        throw std::system_error(error, std::string("TlsContext: there is no ") + what + " in " + pem.name());
    if (!no_more)
        throw std::system_error(
            error, std::string("TlsContext: ") + what + " " + std::to_string(result.size() + 1) + " in " + pem.name());
    return result;
}

}  // namespace

std::vector<X509Pointer> certificates_in(const Pem& pem) {
    return all_in<X509Pointer>(pem, "certificate",
                               [](BIO* from) { return PEM_read_bio_X509(from, nullptr, nullptr, nullptr); });
}

std::vector<X509CrlPointer> revocation_lists_in(const Pem& pem) {
    return all_in<X509CrlPointer>(pem, "revocation list",
                                  [](BIO* from) { return PEM_read_bio_X509_CRL(from, nullptr, nullptr, nullptr); });
}

KeyPointer key_in(const Pem& pem) {
    const std::string text = text_in(pem);
    const BioPointer reader = reader_of(text);
    bool asked = false;
    KeyPointer key(PEM_read_bio_PrivateKey(reader.get(), nullptr, &no_password, &asked));
    if (key != nullptr) return key;
    const std::error_code error = take_openssl_error();
    throw std::system_error(error, asked ? "TlsContext: the key in " + pem.name() + " is encrypted by a password"
                                         : "TlsContext: the key in " + pem.name());
}

}  // namespace reactor
