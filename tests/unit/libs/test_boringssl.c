// BoringSSL as built: a whole TLS 1.3 handshake in memory with the hybrid group and AES-GCM.
#include "test.h"
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/evp.h>
#include <openssl/nid.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

static EVP_PKEY *make_key(void)
{
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    EVP_PKEY *key = EVP_PKEY_new();
    if (!EC_KEY_generate_key(ec) || !EVP_PKEY_assign_EC_KEY(key, ec))
        return NULL;
    return key;
}

static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), 0);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    return X509_sign(cert, key, EVP_sha256()) ? cert : NULL;
}

TEST(boringssl_shakes_hands_with_mlkem_and_aes_gcm)
{
    uint16_t group = SSL_GROUP_X25519_MLKEM768;
    EVP_PKEY *key = make_key();
    X509 *cert = make_certificate(key);
    REQUIRE(key && cert);
    SSL_CTX *sc = SSL_CTX_new(TLS_method()), *cc = SSL_CTX_new(TLS_method());
    EXPECT(SSL_CTX_use_certificate(sc, cert) && SSL_CTX_use_PrivateKey(sc, key));
    EXPECT(SSL_CTX_set1_group_ids(sc, &group, 1) && SSL_CTX_set1_group_ids(cc, &group, 1));
    SSL *server = SSL_new(sc), *client = SSL_new(cc);
    BIO *a, *b;
    REQUIRE(BIO_new_bio_pair(&a, 0, &b, 0));
    SSL_set_bio(server, a, a);
    SSL_set_bio(client, b, b);
    SSL_set_accept_state(server);
    SSL_set_connect_state(client);
    for (int i = 0; i < 10 && (SSL_in_init(server) || SSL_in_init(client)); i++) {
        SSL_do_handshake(client);
        SSL_do_handshake(server);
    }
    EXPECT(!SSL_in_init(server) && !SSL_in_init(client));
    EXPECT_EQ(SSL_version(client), TLS1_3_VERSION);
    EXPECT_EQ(SSL_get_group_id(client), SSL_GROUP_X25519_MLKEM768);
    EXPECT(strstr(SSL_CIPHER_get_name(SSL_get_current_cipher(client)), "AES_128_GCM") != NULL);
#if defined(__x86_64__)
    EXPECT(CRYPTO_has_asm());
#endif
    SSL_free(server);
    SSL_free(client);
    SSL_CTX_free(sc);
    SSL_CTX_free(cc);
    X509_free(cert);
    EVP_PKEY_free(key);
}
