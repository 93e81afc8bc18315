#include "certificates.hpp"

#include <reactor/tls/openssl_impl.hpp>

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdlib>

using namespace reactor;

struct Authority::Parts {
    KeyPointer key;
    X509Pointer certificate;
};

namespace {

// These calls fail only without memory.
void require(bool made) {
    if (!made) std::abort();
}

template <class Write>
std::string pem(Write write) {
    const BioPointer writer(BIO_new(BIO_s_mem()));
    require(writer != nullptr && write(writer.get()) == 1);
    char* text = nullptr;
    const long size = BIO_get_mem_data(writer.get(), &text);
    return {text, std::size_t(size)};
}

std::string pem_of_certificate(X509* certificate) {
    return pem([&](BIO* to) { return PEM_write_bio_X509(to, certificate); });
}

X509Pointer make(const Wanted& wanted, EVP_PKEY* key) {
    X509Pointer made(X509_new());
    require(made != nullptr);
    X509_set_version(made.get(), 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), wanted.serial);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), std::chrono::seconds(wanted.from).count());
    X509_gmtime_adj(X509_getm_notAfter(made.get()), std::chrono::seconds(wanted.until).count());
    const auto* const name = reinterpret_cast<const unsigned char*>(wanted.name.c_str());
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_ASC, name, -1, -1, 0);
    require(X509_set_pubkey(made.get(), key) == 1);
    return made;
}

void extend(X509* certificate, X509* issuer, int which, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, which, value.c_str());
    require(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

bool is_address(const std::string& name) {
    return name.find_first_not_of("0123456789.") == std::string::npos || name.find(':') != std::string::npos;
}

}  // namespace

Authority::Authority(const std::string& name) : parts_(new Parts{KeyPointer(EVP_EC_gen("P-256")), nullptr}) {
    Wanted wanted;
    wanted.name = name;
    wanted.until = std::chrono::hours(24 * 365);
    X509* const own = (parts_->certificate = make(wanted, parts_->key.get())).get();
    require(X509_set_issuer_name(own, X509_get_subject_name(own)) == 1);
    extend(own, own, NID_basic_constraints, "critical,CA:TRUE");
    extend(own, own, NID_key_usage, "critical,keyCertSign,cRLSign");
    extend(own, own, NID_subject_key_identifier, "hash");
    require(X509_sign(own, parts_->key.get(), EVP_sha256()) > 0);
    certificate_ = pem_of_certificate(own);
}

Authority::~Authority() {
    delete parts_;
}

Issued Authority::issue(const Wanted& wanted) const {
    const KeyPointer key(EVP_EC_gen("P-256"));
    require(key != nullptr);
    const X509Pointer made = make(wanted, key.get());
    X509* const issuer = parts_->certificate.get();
    require(X509_set_issuer_name(made.get(), X509_get_subject_name(issuer)) == 1);
    std::string names;
    std::vector<std::string> all{wanted.name};
    all.insert(all.end(), wanted.further_names.begin(), wanted.further_names.end());
    for (const std::string& name : all)
        names += (names.empty() ? "" : ",") + std::string(is_address(name) ? "IP:" : "DNS:") + name;
    extend(made.get(), issuer, NID_subject_alt_name, names);
    extend(made.get(), issuer, NID_authority_key_identifier, "keyid");
    require(X509_sign(made.get(), parts_->key.get(), EVP_sha256()) > 0);
    return {pem_of_certificate(made.get()), pem([&](BIO* to) {
                return PEM_write_bio_PrivateKey(to, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
            })};
}

std::string Authority::revoke(const std::vector<long>& serials) const {
    const X509CrlPointer list(X509_CRL_new());
    require(list != nullptr && X509_CRL_set_version(list.get(), 1) == 1);
    require(X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(parts_->certificate.get())) == 1);
    ASN1_TIME* const time = ASN1_TIME_new();
    X509_gmtime_adj(time, -3600);
    X509_CRL_set1_lastUpdate(list.get(), time);
    for (const long serial : serials) {
        X509_REVOKED* const entry = X509_REVOKED_new();
        ASN1_INTEGER* const number = ASN1_INTEGER_new();
        ASN1_INTEGER_set(number, serial);
        X509_REVOKED_set_serialNumber(entry, number);
        X509_REVOKED_set_revocationDate(entry, time);
        ASN1_INTEGER_free(number);
        require(X509_CRL_add0_revoked(list.get(), entry) == 1);
    }
    X509_gmtime_adj(time, 3600L * 24);
    X509_CRL_set1_nextUpdate(list.get(), time);
    ASN1_TIME_free(time);
    require(X509_CRL_sign(list.get(), parts_->key.get(), EVP_sha256()) > 0);
    return pem([&](BIO* to) { return PEM_write_bio_X509_CRL(to, list.get()); });
}
