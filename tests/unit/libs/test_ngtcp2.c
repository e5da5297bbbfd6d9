// ngtcp2 as built, with its BoringSSL helper: a client connection object that writes an Initial.
#include "test.h"
#include <arpa/inet.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <ngtcp2/ngtcp2_crypto_boringssl.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

static void fill_random(uint8_t *dest, size_t len, const ngtcp2_rand_ctx *ctx)
{
    (void)ctx;
    RAND_bytes(dest, len);
}

static int new_cid(ngtcp2_conn *conn, ngtcp2_cid *cid, ngtcp2_stateless_reset_token *token,
                   size_t len, void *user)
{
    (void)conn, (void)user;
    cid->datalen = len;
    RAND_bytes(cid->data, len);
    RAND_bytes(token->data, sizeof(token->data));
    return 0;
}

static ngtcp2_conn *conn_of_ref(ngtcp2_crypto_conn_ref *ref)
{
    return ref->user_data;
}

static const ngtcp2_callbacks callbacks = {
    .client_initial = ngtcp2_crypto_client_initial_cb,
    .recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb,
    .encrypt = ngtcp2_crypto_encrypt_cb,
    .decrypt = ngtcp2_crypto_decrypt_cb,
    .hp_mask = ngtcp2_crypto_hp_mask_cb,
    .recv_retry = ngtcp2_crypto_recv_retry_cb,
    .rand = fill_random,
    .get_new_connection_id2 = new_cid,
    .update_key = ngtcp2_crypto_update_key_cb,
    .delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb,
    .delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb,
    .get_path_challenge_data2 = ngtcp2_crypto_get_path_challenge_data2_cb,
    .version_negotiation = ngtcp2_crypto_version_negotiation_cb,
};

TEST(ngtcp2_writes_an_initial)
{
    ngtcp2_cid dcid = {.datalen = 18}, scid = {.datalen = 18};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = 1}, b = a;
    ngtcp2_path path = {
        {(ngtcp2_sockaddr *)&a, sizeof(a)}, {(ngtcp2_sockaddr *)&b, sizeof(b)}, NULL};
    ngtcp2_settings settings;
    ngtcp2_transport_params params;
    ngtcp2_conn *conn = NULL;
    uint8_t packet[1500];
    ngtcp2_settings_default(&settings);
    ngtcp2_transport_params_default(&params);
    settings.initial_ts = 1;
    REQUIRE(ngtcp2_conn_client_new(&conn, &dcid, &scid, &path, NGTCP2_PROTO_VER_V1, &callbacks,
                                   &settings, &params, NULL, NULL) == 0);
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    EXPECT_EQ(ngtcp2_crypto_boringssl_configure_client_context(ctx), 0);
    SSL *ssl = SSL_new(ctx);
    ngtcp2_crypto_conn_ref ref = {conn_of_ref, conn};
    SSL_set_app_data(ssl, &ref);
    SSL_set_alpn_protos(ssl, (const uint8_t *)"\x02h3", 3);
    SSL_set_connect_state(ssl);
    ngtcp2_conn_set_tls_native_handle(conn, ssl);
    EXPECT_EQ(ngtcp2_conn_write_pkt(conn, NULL, NULL, packet, sizeof(packet), 2), 1200);
    EXPECT_STR(ngtcp2_version(0)->version_str, "1.25.0");
    ngtcp2_conn_del(conn);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
}
