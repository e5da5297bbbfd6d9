#include "admin/cli.h"
#include "core/clock.h"
#include "test.h"

static struct cli_options o;
static char error[512];

#define PARSE(...) parse((const char *[]){"sluice", __VA_ARGS__, NULL})

static enum err parse(const char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    return cli_parse(argc, (char **)(uintptr_t)argv, &o, error, sizeof(error));
}

static const char *addr_text(const struct addr *a)
{
    static char buf[ADDR_TEXT_MAX];
    buf[addr_format(a, buf, sizeof(buf), true)] = '\0';
    return buf;
}

TEST(cli_run_takes_documents_with_their_namespaces)
{
    REQUIRE(PARSE("run", "-f", "/", "-n", "istio-system", "-f", "/tmp", "-f/dev", "--namespace=b",
                  "--filename=/proc") == OK);
    EXPECT_EQ(o.command, CLI_RUN);
    REQUIRE(o.input_count == 4);
    const char *want[][2] = {{"default", "/"}, {"istio-system", "/tmp"}, {"istio-system", "/dev"}, {"b", "/proc"}};
    for (int i = 0; i < 4; i++) {
        EXPECT_STR(o.inputs[i].ns, want[i][0]);
        EXPECT_STR(o.inputs[i].path, want[i][1]);
    }
    cli_options_fini(&o);
}

TEST(cli_run_defaults)
{
    REQUIRE(PARSE("run", "-f", "/") == OK);
    EXPECT_STR(addr_text(&o.admin), "127.0.0.1:15000");
    EXPECT_STR(addr_text(&o.status), "0.0.0.0:15021");
    EXPECT_STR(addr_text(&o.metrics), "0.0.0.0:15090");
    EXPECT_EQ(o.drain_time_ns, 30 * NS_PER_S);
    EXPECT_EQ(o.log_level, LOG_LEVEL_INFO);
    EXPECT(!o.strict && !o.access_log && !o.workers && !o.labels.count);
    cli_options_fini(&o);
}

TEST(cli_run_options)
{
    REQUIRE(PARSE("run", "-f", "/", "--workers", "3", "--labels", "istio=ingressgateway,app=x=y,e=",
                  "--admin", "[::1]:1", "--status-port=127.0.0.1:0", "--metrics-port", "0",
                  "--no-http3", "--ktls", "auto", "--auto-passthrough-alpn", "any", "--drain-time", "1m30s", "--log-level", "warn",
                  "--head-timeout", "10s", "--idle-timeout", "2h", "--stall-timeout", "1m",
                  "--strict", "--access-log", "-", "--access-log-format", "json") == OK);
    EXPECT_EQ(o.workers, 3);
    REQUIRE(o.labels.count == 3);
    EXPECT(slice_eq(o.labels.items[0].key, SLICE("istio")));
    EXPECT(slice_eq(o.labels.items[0].value, SLICE("ingressgateway")));
    EXPECT(slice_eq(o.labels.items[1].value, SLICE("x=y")));
    EXPECT(slice_eq(o.labels.items[2].value, SLICE("")));
    EXPECT_STR(addr_text(&o.admin), "[::1]:1");
    EXPECT_STR(addr_text(&o.status), "127.0.0.1:0");
    EXPECT_EQ(o.metrics.len, 0);
    EXPECT_EQ(o.drain_time_ns, 90 * NS_PER_S);
    EXPECT(o.any_alpn);
    EXPECT_EQ(o.head_timeout_ns, 10 * NS_PER_S);
    EXPECT_EQ(o.idle_timeout_ns, 7200 * NS_PER_S);
    EXPECT_EQ(o.stall_timeout_ns, 60 * NS_PER_S);
    EXPECT_EQ(o.log_level, LOG_LEVEL_WARN);
    EXPECT(o.strict);
    cli_options_fini(&o);
    REQUIRE(PARSE("pc", "routes", "--admin", "localhost:17000") == OK);
    EXPECT_STR(addr_text(&o.admin), "127.0.0.1:17000");
    cli_options_fini(&o);
    REQUIRE(PARSE("run", "-f", "/", "--access-log", "-", "--access-log-format", "json") == OK);
    EXPECT_STR(o.access_log, "-");
    EXPECT_EQ(o.access_log_format, ACCESS_LOG_JSON);
    cli_options_fini(&o);
}

TEST(cli_mistakes_are_sentences)
{
    static const struct {
        const char *argv[8];
        const char *says;
    } cases[] = {
        {{"sluice", "rum"}, "unknown command 'rum'; did you mean run?"},
        {{"sluice", "run"}, "run: no documents: give at least one -f FILE or FOLDER"},
        {{"sluice", "run", "-f", "/", "--worker", "2"}, "unknown flag --worker; did you mean --workers?"},
        {{"sluice", "run", "-f", "/", "--acces-log=x"}, "unknown flag --acces-log; did you mean --access-log?"},
        {{"sluice", "run", "-x"}, "unknown flag -x; see sluice run --help"},
        {{"sluice", "analyze", "-f", "/", "--workers", "2"}, "unknown flag --workers; see sluice analyze --help"},
        {{"sluice", "run", "-f"}, "-f needs a value"},
        {{"sluice", "run", "-f", "/no/such"}, "-f /no/such: it does not exist or cannot be read"},
        {{"sluice", "run", "-f", "/", "--strict=1"}, "--strict takes no value"},
        {{"sluice", "run", "-f", "/", "--workers", "0"}, "--workers: '0' is not a number from 1 to 256"},
        {{"sluice", "run", "-f", "/", "-n", "shop"}, "run: -n shop has no -f behind it: it is for the documents that follow"},
        {{"sluice", "run", "-f", "/", "--admin", "gateway:1"}, "--admin: 'gateway:1' is neither a port nor ADDRESS:PORT"},
        {{"sluice", "run", "-f", "/", "--auto-passthrough-alpn", "h2"}, "--auto-passthrough-alpn: 'h2' is none of istio, any"},
        {{"sluice", "run", "-f", "/", "--ktls", "yes"}, "--ktls: 'yes' is none of auto, on, off"},
        {{"sluice", "run", "-f", "/", "--labels", "a"}, "--labels: 'a' is not KEY=VALUE"},
        {{"sluice", "run", "-f", "/", "--head-timeout", "0s"}, "--head-timeout: it cannot be 0"},
        {{"sluice", "run", "-f", "/", "--stall-timeout", "5x"}, "--stall-timeout: '5x' is not a duration such as 30s or 1m30s"},
        {{"sluice", "run", "-f", "/", "--drain-time", "soon"}, "--drain-time: 'soon' is not a duration such as 30s or 1m30s"},
        {{"sluice", "run", "-f", "/", "file"}, "run: 'file' is not expected here (a file is given with -f)"},
        {{"sluice", "proxy-config"}, "proxy-config: say which: listeners, routes, clusters, endpoints or secrets"},
        {{"sluice", "proxy-config", "route", "x"}, "proxy-config: 'x' is not expected here (a file is given with -f)"},
        {{"sluice", "proxy-config", "rotes"}, "proxy-config: 'rotes' is none of listeners, routes, clusters, endpoints, secrets; did you mean routes?"},
        {{"sluice", "explain", "-f", "/", "--host", "h"}, "explain: --host and --path are needed"},
        {{"sluice", "explain", "-f", "/", "--path", "x"}, "--path: 'x' does not begin with /"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT_EQ(parse((const char **)(uintptr_t)cases[i].argv), ERR_INVALID);
        EXPECT_STR(error, cases[i].says);
        cli_options_fini(&o);
    }
}

TEST(cli_other_commands)
{
    REQUIRE(PARSE("pc", "ep", "--admin", "127.0.0.1:9", "-o", "json") == OK);
    EXPECT_EQ(o.command, CLI_PROXY_CONFIG);
    EXPECT_STR(o.listing, "endpoints");
    EXPECT(o.json);
    cli_options_fini(&o);
    REQUIRE(PARSE("explain", "-f", "/", "--host", "h", "--path", "/a?b", "--port", "80", "--method",
                  "POST", "-H", "X-A: 1 ", "--header", "b:") == OK);
    EXPECT_STR(o.method, "POST");
    EXPECT_EQ(o.port, 80);
    REQUIRE(o.header_count == 2);
    EXPECT(slice_eq(o.headers[0].name, SLICE("x-a")) && slice_eq(o.headers[0].value, SLICE("1")));
    EXPECT(slice_eq(o.headers[1].name, SLICE("b")) && slice_eq(o.headers[1].value, SLICE("")));
    cli_options_fini(&o);
    REQUIRE(PARSE("run", "--help") == OK);
    EXPECT_EQ(o.command, CLI_HELP);
    EXPECT_EQ(o.help_for, CLI_RUN);
    cli_options_fini(&o);
    REQUIRE(PARSE("--version") == OK);
    EXPECT_EQ(o.command, CLI_VERSION);
    cli_options_fini(&o);
    REQUIRE(PARSE("help", "analyze") == OK);
    EXPECT_EQ(o.help_for, CLI_ANALYZE);
    cli_options_fini(&o);
}

TEST(cli_durations)
{
    uint64_t ns;
    EXPECT(cli_parse_duration("30", &ns) && ns == 30 * NS_PER_S);
    EXPECT(cli_parse_duration("0", &ns) && ns == 0);
    EXPECT(cli_parse_duration("1.5s", &ns) && ns == 1500 * NS_PER_MS);
    EXPECT(cli_parse_duration("250ms", &ns) && ns == 250 * NS_PER_MS);
    EXPECT(!cli_parse_duration("", &ns) && !cli_parse_duration("-1s", &ns) &&
           !cli_parse_duration("1d", &ns) && !cli_parse_duration("25h", &ns));
}
