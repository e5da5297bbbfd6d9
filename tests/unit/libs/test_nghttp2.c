// nghttp2 as built: a client session's request and a server session's response, in memory.
#include "test.h"
#include <nghttp2/nghttp2.h>

static int headers_seen, statuses_seen;

static int on_header(nghttp2_session *s, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *user)
{
    (void)s, (void)frame, (void)flags, (void)user;
    statuses_seen += name_len == 7 && memcmp(name, ":status", 7) == 0 && value_len == 3 &&
                     memcmp(value, "204", 3) == 0;
    headers_seen += name_len == 5 && memcmp(name, ":path", 5) == 0;
    return 0;
}

#define NV(n, v)                                                                         \
    {(uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, sizeof(v) - 1, \
     NGHTTP2_NV_FLAG_NONE}

static void carry(nghttp2_session *from, nghttp2_session *to)
{
    const uint8_t *data;
    nghttp2_ssize n;
    while ((n = nghttp2_session_mem_send2(from, &data)) > 0)
        EXPECT_EQ(nghttp2_session_mem_recv2(to, data, (size_t)n), n);
    EXPECT_EQ(n, 0);
}

TEST(nghttp2_carries_a_request_and_its_response)
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
    EXPECT_EQ(nghttp2_submit_settings(server, NGHTTP2_FLAG_NONE, NULL, 0), 0);
    EXPECT_EQ(nghttp2_submit_request2(client, NULL, nv, 4, NULL, NULL), 1);
    carry(client, server);
    EXPECT_EQ(headers_seen, 1);
    const nghttp2_nv status[] = {NV(":status", "204")};
    EXPECT_EQ(nghttp2_submit_response2(server, 1, status, 1, NULL), 0);
    carry(server, client);
    EXPECT_EQ(statuses_seen, 1);
    EXPECT_STR(nghttp2_version(0)->version_str, "1.68.1");
    nghttp2_session_del(client);
    nghttp2_session_del(server);
    nghttp2_session_callbacks_del(cb);
}
