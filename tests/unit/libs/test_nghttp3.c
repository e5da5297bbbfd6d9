// nghttp3 as built: a connection object, and a field section through QPACK and back.
#include "test.h"
#include <nghttp3/nghttp3.h>

TEST(nghttp3_creates_a_connection)
{
    nghttp3_callbacks callbacks = {0};
    nghttp3_settings settings;
    nghttp3_conn *conn = NULL;
    nghttp3_settings_default(&settings);
    EXPECT_EQ(nghttp3_conn_server_new(&conn, &callbacks, &settings, NULL, NULL), 0);
    EXPECT(conn != NULL);
    EXPECT_EQ(nghttp3_conn_bind_control_stream(conn, 3), 0);
    EXPECT_STR(nghttp3_version(0)->version_str, "1.18.0");
    nghttp3_conn_del(conn);
}

TEST(nghttp3_qpack_round_trip)
{
    nghttp3_qpack_encoder *enc;
    nghttp3_qpack_decoder *dec;
    nghttp3_qpack_stream_context *sctx;
    const nghttp3_mem *mem = nghttp3_mem_default();
    nghttp3_buf prefix, section, stream;
    nghttp3_nv nv = {.name = (uint8_t *)(uintptr_t)"x-name",
                     .value = (uint8_t *)(uintptr_t)"value",
                     .namelen = 6,
                     .valuelen = 5};
    REQUIRE(nghttp3_qpack_encoder_new(&enc, 4096, mem) == 0);
    REQUIRE(nghttp3_qpack_decoder_new(&dec, 4096, 16, mem) == 0);
    REQUIRE(nghttp3_qpack_stream_context_new(&sctx, 0, mem) == 0);
    nghttp3_buf_init(&prefix);
    nghttp3_buf_init(&section);
    nghttp3_buf_init(&stream);
    REQUIRE(nghttp3_qpack_encoder_encode(enc, &prefix, &section, &stream, 0, &nv, 1) == 0);
    nghttp3_qpack_nv out;
    uint8_t flags = 0;
    int seen = 0;
    nghttp3_qpack_decoder_read_request(dec, sctx, &out, &flags, prefix.pos,
                                       nghttp3_buf_len(&prefix), 0);
    const uint8_t *p = section.pos;
    size_t left = nghttp3_buf_len(&section);
    for (int i = 0; i < 4 && !(flags & NGHTTP3_QPACK_DECODE_FLAG_FINAL); i++) {
        nghttp3_ssize n = nghttp3_qpack_decoder_read_request(dec, sctx, &out, &flags, p, left, 1);
        REQUIRE(n >= 0);
        p += n;
        left -= (size_t)n;
        if (flags & NGHTTP3_QPACK_DECODE_FLAG_EMIT) {
            nghttp3_vec v = nghttp3_rcbuf_get_buf(out.value);
            seen += v.len == 5 && memcmp(v.base, "value", 5) == 0;
            nghttp3_rcbuf_decref(out.name);
            nghttp3_rcbuf_decref(out.value);
        }
    }
    EXPECT_EQ(seen, 1);
    nghttp3_buf_free(&prefix, mem);
    nghttp3_buf_free(&section, mem);
    nghttp3_buf_free(&stream, mem);
    nghttp3_qpack_stream_context_del(sctx);
    nghttp3_qpack_decoder_del(dec);
    nghttp3_qpack_encoder_del(enc);
}
