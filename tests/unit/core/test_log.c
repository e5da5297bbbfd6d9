#include "core/log.h"
#include "test.h"
#include <unistd.h>

// What log_event writes to standard error, caught in a pipe.
static ssize_t caught(char *buf, size_t cap, const char *value)
{
    int fd[2], saved = dup(2);
    if (pipe(fd) < 0)
        return -1;
    dup2(fd[1], 2);
    log_info("test_event", "value=\"%s\"", value);
    dup2(saved, 2);
    close(saved);
    close(fd[1]);
    ssize_t n = read(fd[0], buf, cap - 1);
    close(fd[0]);
    buf[n > 0 ? n : 0] = '\0';
    return n;
}

TEST(log_writes_one_line_whatever_the_value)
{
    static char buf[8192], big[5000];
    REQUIRE(caught(buf, sizeof(buf), "a\nb\rc") > 0);
    EXPECT(strchr(buf, '\n') == buf + strlen(buf) - 1);
    EXPECT(strstr(buf, " level=info event=test_event value=\"a b c\"") != NULL);
    EXPECT(buf[10] == 'T' && buf[23] == 'Z');
    memset(big, 'x', sizeof(big) - 1);
    ssize_t n = caught(buf, sizeof(buf), big);
    EXPECT(n > 2000 && n <= 2048 && buf[n - 1] == '\n');
}

TEST(log_levels_and_limits)
{
    enum log_level l;
    EXPECT(log_parse_level(SLICE("Warning"), &l) == OK && l == LOG_LEVEL_WARN);
    EXPECT(log_parse_level(SLICE("debug"), &l) == OK && l == LOG_LEVEL_DEBUG);
    EXPECT(log_parse_level(SLICE("loud"), &l) == ERR_SYNTAX);
    EXPECT(log_enabled(LOG_LEVEL_ERROR) && !log_enabled(LOG_LEVEL_DEBUG));
    struct log_limit lim = {0};
    uint64_t now = 5000000000ull;
    EXPECT(log_allow(&lim, now, 2) && log_allow(&lim, now, 2) && !log_allow(&lim, now, 2));
    EXPECT(log_allow(&lim, now + 1000000000ull, 2));
    EXPECT_EQ(lim.suppressed, 1);
}
