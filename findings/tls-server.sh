# Shared by the findings about streams of TLS that are cut; each sources it behind packages.sh. A server of OpenSSL's
# serves one page to each of two clients, whose end is that of the stream: to the first with close_notify, and to the
# second without, as if an attacker had cut the connection (RFC 8446 6.1).
#
#   serve_pages COMMAND   runs this shell command for each, with the port in $PORT and the certificate in $CERTIFICATE

serve_pages() {
    cat >"$folder/server.c" <<'C'
#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

// A certificate for 127.0.0.1 that has signed itself, also in the file.
static void make_certificate(SSL_CTX* context, const char* path) {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* made = X509_new();
    X509_set_version(made, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(made), 1);
    X509_gmtime_adj(X509_getm_notBefore(made), -3600);
    X509_gmtime_adj(X509_getm_notAfter(made), 3600);
    X509_set_pubkey(made, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(made), "CN", MBSTRING_ASC, (unsigned char*)"127.0.0.1", -1, -1, 0);
    X509_set_issuer_name(made, X509_get_subject_name(made));
    X509V3_CTX about;
    X509V3_set_ctx(&about, made, made, NULL, NULL, 0);
    X509_add_ext(made, X509V3_EXT_conf_nid(NULL, &about, NID_subject_alt_name, "IP:127.0.0.1"), -1);
    X509_add_ext(made, X509V3_EXT_conf_nid(NULL, &about, NID_basic_constraints, "critical,CA:TRUE"), -1);
    X509_sign(made, key, EVP_sha256());
    SSL_CTX_use_certificate(context, made);
    SSL_CTX_use_PrivateKey(context, key);
    FILE* file = fopen(path, "w");
    PEM_write_X509(file, made);
    fclose(file);
}

// Answers one request with half of a page, whose end is that of the stream, and ends it with close_notify or without.
static int serve(SSL_CTX* context, int listener, int orderly) {
    int connection = accept(listener, NULL, NULL);
    SSL* ssl = SSL_new(context);
    SSL_set_fd(ssl, connection);
    char request[2048];
    if (SSL_accept(ssl) != 1 || SSL_read(ssl, request, sizeof request) <= 0) return 1;
    const char answer[] = "HTTP/1.0 200 OK\r\n\r\nhalf of a page\n";
    SSL_write(ssl, answer, sizeof answer - 1);
    if (orderly) SSL_shutdown(ssl);
    shutdown(connection, SHUT_WR);
    while (read(connection, request, sizeof request) > 0) {
    }
    close(connection);
    SSL_free(ssl);
    return 0;
}

// folder, then a shell command that has the port in $PORT and the certificate in $CERTIFICATE
int main(int count, char** words) {
    signal(SIGPIPE, SIG_IGN);
    char path[4096], port[16];
    snprintf(path, sizeof path, "%s/certificate.pem", words[1]);
    SSL_CTX* context = SSL_CTX_new(TLS_server_method());
    make_certificate(context, path);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof address;
    bind(listener, (struct sockaddr*)&address, length);
    listen(listener, 8);
    getsockname(listener, (struct sockaddr*)&address, &length);
    snprintf(port, sizeof port, "%d", ntohs(address.sin_port));
    setenv("PORT", port, 1);
    setenv("CERTIFICATE", path, 1);
    for (int orderly = 1; orderly >= 0; --orderly) {
        pid_t server = fork();
        if (server == 0) _exit(serve(context, listener, orderly));
        int status = system(words[2]);
        int ignored;
        waitpid(server, &ignored, 0);
        printf("%s: the client ends with status %d\n", orderly ? "with close_notify" : "without close_notify",
               WEXITSTATUS(status));
        fflush(stdout);
    }
    return 0;
}
C
    build server -I"$include" -I"$include/$triplet" -L"$libraries" -lssl -lcrypto -Wl,-rpath,"$libraries"
    versions
    bounded "$folder/server" "$folder" "$1"
}
