// What --help prints. Constant text only.
#include "admin/cli.h"
#include <stdio.h>

#ifndef SLUICE_VERSION
#define SLUICE_VERSION "dev"
#endif

static const char overview[] =
    "Sluice: an edge gateway on io_uring that reads Istio's documents.\n"
    "\n"
    "usage: sluice COMMAND [flags]\n"
    "\n"
    "  run            serve in the foreground\n"
    "  analyze        check documents; exit 1 on an error\n"
    "  proxy-config   what a running gateway serves: listeners, routes, clusters, endpoints, "
    "secrets\n"
    "  explain        where a request would go, and why\n"
    "  version        print the version\n"
    "\n"
    "Try: sluice run -n istio-system -f gateway.yaml -n default -f apps/\n"
    "Each command explains itself with --help.\n";

#define DOCUMENT_FLAGS                                                                           \
    "documents\n"                                                                                \
    "  -f, --filename PATH      a file, or a folder with *.yaml, *.yml and *.json; may be "      \
    "repeated\n"                                                                                 \
    "  -n, --namespace NS       namespace of the documents after it that name none, as with\n"   \
    "                           kubectl apply -n (default: default); may be repeated\n"          \
    "      --labels K=V,…       labels of this node: only Gateways whose selector matches are\n" \
    "                           served (default: all of them)\n"                                 \
    "      --strict             refuse what Istio refuses and Sluice would accept with a "       \
    "warning\n"

static const char run_help[] =
    "usage: sluice run [-n NS] -f PATH [-n NS -f PATH …] [flags]\n"
    "\n"
    "Serves what the documents say. They are watched: a change is live within a second, whole or\n"
    "not at all. SIGHUP reloads at once, SIGTERM drains and ends, SIGUSR1 reopens the access log.\n"
    "\n" DOCUMENT_FLAGS "\n"
    "serving\n"
    "      --workers N          worker threads (default: one for each core this process may use)\n"
    "      --drain-time TIME    how long SIGTERM waits for requests in flight (default: 30s)\n"
    "      --head-timeout TIME  how long a request's head may take, or a TLS handshake\n"
    "                           (default: 30s, and 10s)\n"
    "      --idle-timeout TIME  how long a client's connection may be idle (default: 1h)\n"
    "      --stall-timeout TIME how long a body or a response may not move (default: 5m)\n"
    "      --udp-idle-timeout TIME\n"
    "                           how long a UDP session may be idle (default: 60s)\n"
    "      --udp-sessions N     UDP sessions at a time (default: half of the connections that the\n"
    "                           open files allow)\n"
    "      --no-http3           no HTTP/3 (not served yet in any case)\n"
    "      --ktls auto|on|off   TLS records in the kernel, where it can (default: auto,\n"
    "                           which leaves them to user space so far)\n"
    "      --auto-passthrough-alpn istio|any\n"
    "                           AUTO_PASSTHROUGH is for clients that offer one of Istio's\n"
    "                           protocols, or for all (default: istio)\n"
    "      --identity FOLDER    with cert-chain.pem, key.pem and root-cert.pem, who this gateway "
    "is\n"
    "                           for ISTIO_MUTUAL (default: /etc/certs)\n"
    "      --proxy-protocol CIDR,…\n"
    "                           connections from these addresses begin with a PROXY header\n"
    "                           (version 1 or 2), which says who the client is (default: none)\n"
    "\n"
    "seeing inside\n"
    "      --admin ADDR:PORT    listings and metrics (default: 127.0.0.1:15000; 0 = off)\n"
    "      --status-port PORT   /healthz/ready (default: 15021; 0 = off); ADDR:PORT works too\n"
    "      --metrics-port PORT  /stats/prometheus (default: 15090; 0 = off); ADDR:PORT works too\n"
    "      --access-log FILE    a line for each request; - is standard output (default: none)\n"
    "      --access-log-format text|json|FORMAT\n"
    "                           Istio's default text or JSON, or a format with Envoy's "
    "%OPERATORS%\n"
    "      --l4-stats mongo,mysql,redis|none\n"
    "                           count what connections to servers of these protocols ask for\n"
    "                           (default: mongo, as Istio)\n"
    "      --log-level LEVEL    debug, info, warn, error or off (default: info), to standard "
    "error\n";

static const char analyze_help[] =
    "usage: sluice analyze [-n NS] -f PATH [-n NS -f PATH …] [flags]\n"
    "\n"
    "Checks documents and prints everything that is wrong with them, as FILE:LINE:COLUMN. Exit\n"
    "status: 0 no error, 1 an error, 2 a mistake on the command line.\n"
    "\n" DOCUMENT_FLAGS "\n"
    "output\n"
    "  -o, --output text|json   (default: text)\n";

static const char proxy_config_help[] =
    "usage: sluice proxy-config listeners|routes|clusters|endpoints|secrets [flags]\n"
    "\n"
    "What a running gateway serves, in istioctl's columns. Short: sluice pc routes.\n"
    "\n"
    "      --admin ADDR:PORT    the gateway's admin port (default: 127.0.0.1:15000)\n"
    "  -o, --output text|json   (default: text)\n";

static const char explain_help[] =
    "usage: sluice explain --host HOST --path PATH [flags] [-n NS] -f PATH …\n"
    "\n"
    "Reads the documents as run would, without serving, and says which listener, filter chain,\n"
    "virtual host, rule and cluster a request meets, or why it is answered with 404 or 503.\n"
    "Exit status: 0 a rule is met, 1 none is or the documents have errors, 2 a mistake on the\n"
    "command line.\n"
    "\n"
    "request\n"
    "      --host HOST          the Host field\n"
    "      --path PATH          the path, with its query\n"
    "      --port N             the Gateway's server port, or the port bound (default: each)\n"
    "      --sni NAME           the server name of the TLS handshake (default: the host)\n"
    "      --method METHOD      (default: GET)\n"
    "  -H, --header NAME:VALUE  may be repeated\n"
    "\n" DOCUMENT_FLAGS "\n"
    "output\n"
    "  -o, --output text|json   (default: text)\n";

static const char version_help[] = "usage: sluice version\n";

void cli_print_help(enum cli_command command)
{
    static const char *const texts[CLI_COMMANDS + 1] = {
        [CLI_RUN] = run_help,
        [CLI_ANALYZE] = analyze_help,
        [CLI_PROXY_CONFIG] = proxy_config_help,
        [CLI_EXPLAIN] = explain_help,
        [CLI_VERSION] = version_help,
        [CLI_HELP] = overview,
        [CLI_COMMANDS] = overview,
    };
    fputs(texts[command], stdout);
}

int cli_version(void)
{
    puts("sluice " SLUICE_VERSION);
    return CLI_EXIT_OK;
}
