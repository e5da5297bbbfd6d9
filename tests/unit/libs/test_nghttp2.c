// nghttp2 as built: a client session's request is read by a server session, in memory.
#include "test.h"
#include <nghttp2/nghttp2.h>

static int headers_seen;

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)s, (void)frame, (void)value, (void)value_len, (void)flags, (void)user;
    headers_seen += name_len == 5 && memcmp(name, ":path", 5) == 0;
    return 0;
}

#define NV(n, v)                                                                         \
    {(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, sizeof(v) - 1, \
     NGHTTP2_NV_FLAG_NONE}

TEST(nghttp2_carries_a_request)
{
    nghttp2_session_callbacks *cb;
    nghttp2_session *client, *server;
    const nghttp2_nv nv[] = {NV(":method", "GET"), NV(":scheme", "http"), NV(":path", "/"),
                             NV(":authority", "a")};
    REQUIRE(nghttp2_session_callbacks_new(&cb) == 0);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    REQUIRE(nghttp2_session_client_new(&client, cb, NULL) == 0);
    REQUIRE(nghttp2_session_server_new(&server, cb, NULL) == 0);
    EXPECT_EQ(nghttp2_submit_settings(client, NGHTTP2_FLAG_NONE, NULL, 0), 0);
    EXPECT_EQ(nghttp2_submit_request2(client, NULL, nv, 4, NULL, NULL), 1);
    const uint8_t *data;
    nghttp2_ssize n;
    while ((n = nghttp2_session_mem_send2(client, &data)) > 0)
        EXPECT_EQ(nghttp2_session_mem_recv2(server, data, (size_t)n), n);
    EXPECT_EQ(headers_seen, 1);
    EXPECT_STR(nghttp2_version(0)->version_str, "1.68.1");
    nghttp2_session_del(client);
    nghttp2_session_del(server);
    nghttp2_session_callbacks_del(cb);
}
